"""What is timed: one way in one process. `python bench/measure.py PART WAY SIZE` prints a JSON object as its last line.

Preparation (imports, loading, a first small batch) is not counted, except where the start itself is what is timed.
"""

import argparse
import json
from functools import partial
from typing import Any

from common import EXPORT, MODEL, Measure, device
from prediction import BULK, ENGINES, ONE_BY_ONE, PREDICTORS, bulk, of_length, on_threads, one_by_one
from processes import COMMAND, cold, file_of, in_a_process, small_run
from profiles import profile_of_one_text, profile_of_prediction, profile_of_training
from training import TUNED, TUNINGS, with_emo_nb, with_trainer


def peak(_: int) -> dict[str, Any]:
    "The most that products of matrices reach here, in billions of operations a second."
    from emo_nb.engine.device import choose_backend, measure_peak_flops

    backends = {dtype: choose_backend(device(), dtype) for dtype in ("float32", "bfloat16")}
    return {
        dtype: measure_peak_flops(backend, repeats=20) / 1e9
        for dtype, backend in backends.items()
        if backend.dtype == dtype  # bfloat16 is not granted where it would be emulated
    }


READY = "from emo_nb.predict import TrainedClassifier as T; T.from_pretrained({!r}).predict_proba('one text')"
WORK = (("training", "train", "emo_nb, LoRA"), ("prediction", "predict", "emo_nb, bulk"))
MACHINE: dict[str, Measure] = {"peak": peak}
PARTS: dict[str, dict[str, Measure]] = {
    "train": MACHINE
    | {
        "the study's recipe": with_trainer("study"),
        "a tuned Trainer": with_trainer("tuned"),
        "emo_nb, LoRA": with_emo_nb("lora"),
        "emo_nb, every layer": with_emo_nb("finetune"),
    },
    "tuning": {name: with_trainer("tuned", epochs=3, scored=True, tuning=name) for name in TUNINGS},
    "score": {
        "a tuned Trainer, one epoch": with_trainer("tuned", scored=True, tuning=TUNED),
        "a tuned Trainer, three epochs": with_trainer("tuned", epochs=3, scored=True, tuning=TUNED),
        "emo_nb, LoRA, a quarter of an epoch": with_emo_nb("lora", scored=True, share=1 / 4),
        "emo_nb, LoRA, three eighths": with_emo_nb("lora", scored=True, share=3 / 8),
        "emo_nb, LoRA, half an epoch": with_emo_nb("lora", scored=True, share=1 / 2),
        "emo_nb, LoRA, the shortest two fifths": with_emo_nb("lora", scored=True, share=2 / 5, shortest=True),
        "emo_nb, LoRA, the shorter half": with_emo_nb("lora", scored=True, share=1 / 2, shortest=True),
        "emo_nb, LoRA, four fifths": with_emo_nb("lora", scored=True, share=4 / 5),
        "emo_nb, LoRA, one epoch": with_emo_nb("lora", scored=True),
        "emo_nb, every layer, one epoch": with_emo_nb("finetune", scored=True),
    },
    "study": {
        "the study's recipe, one epoch": with_trainer("study", scored=True),
        "emo_nb, LoRA, a sixteenth of an epoch": with_emo_nb("lora", scored=True, share=1 / 16),
        "emo_nb, LoRA, a quarter of an epoch": with_emo_nb("lora", scored=True, share=1 / 4),
        "emo_nb, LoRA, one epoch": with_emo_nb("lora", scored=True),
    },
    "profile": {
        "training, LoRA": profile_of_training("lora"),
        "training, every layer": profile_of_training("finetune"),
        "prediction, bulk": profile_of_prediction,
        "prediction, one text": profile_of_one_text,
    },
    "predict": MACHINE | {way: bulk(load) for way, load in (PREDICTORS | BULK).items()},
    "latency": {way: one_by_one(load) for way, load in (PREDICTORS | ONE_BY_ONE).items()},
    "engines": {
        **{f"emo_nb, {engine}, bulk": bulk(load) for engine, load in ENGINES.items()},
        **{f"emo_nb, {engine}, one by one": one_by_one(load) for engine, load in ENGINES.items()},
    },
    "run": {"make run": small_run},
    "start": {
        "package and model": cold(["-c", READY.format(str(MODEL))]),
        "emo-nb predict": cold([*COMMAND, "predict", "--model", str(MODEL), "one text"]),
        "package and exported model": cold(["-c", READY.format(str(EXPORT))]),
        "emo-nb predict, exported": cold([*COMMAND, "predict", "--model", str(EXPORT), "one text"]),
        "the export's example": cold([str(EXPORT / "example.py")]),
    },
    "rows": {"emo-nb predict": file_of},
    "ray": {
        "emo-nb predict": file_of,
        "Ray, workers of one core": partial(file_of, ray_cores=1),
        "Ray, a worker of two cores": partial(file_of, ray_cores=2),
        "Ray, one worker on one core": partial(file_of, ray_cores=1, on={0}),
    },
    "length": {"emo_nb, bulk": of_length},
    "threads": {"emo_nb, bulk": on_threads},
    "company": {
        f"{name}{', beside two busy processes' if busy else ', alone'}": in_a_process(part, way, busy)
        for name, part, way in WORK
        for busy in (0, 2)
    }
    | {
        f"{name}, alone, threads that spin": in_a_process(part, way, OMP_WAIT_POLICY="active")
        for name, part, way in WORK
    },
    "quota": {
        f"{name}, {cores} cores" if cores > 1 else f"{name}, bound to one core": in_a_process(part, way, cores=cores)
        for name, part, way in WORK
        for cores in (2, 1)
    },
    "memory": {
        f"{part}: {way}": in_a_process(part, way)
        for part, ways in (
            ("train", ("a tuned Trainer", "emo_nb, LoRA", "emo_nb, every layer")),
            ("predict", (*PREDICTORS, *BULK)),
        )
        for way in ways
    }
    | {
        "a file: emo-nb predict": lambda rows: file_of(20 * rows),
        "a file: emo-nb predict, exported model": lambda rows: file_of(20 * rows, model=EXPORT),
    },
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("way")
    parser.add_argument("size", type=int)
    given = parser.parse_args()
    if given.way.startswith("emo_nb"):  # in a process like the command's
        from emo_nb.engine.memory import limit_kernel_cache
        from emo_nb.engine.threads import configure_threads

        configure_threads()
        limit_kernel_cache()
    print(json.dumps(PARTS[given.part][given.way](given.size)))

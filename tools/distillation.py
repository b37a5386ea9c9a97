"""A small classifier that learns from a larger one: GoEmotions' labels, and what all-mpnet-base-v2 says of more texts.

    python tools/distillation.py [STEP]      teachers, targets, students or write; all of them where none is named

Teachers of 109 million parameters are trained on GoEmotions' 28 labels, one a seed, and their mean probabilities on the
training comments and on EmpatheticDialogues' utterances are saved; students of 22 million parameters learn from them.
What is there in runs/distillation/ is not made again. Dev rows choose, test rows report. A student that has learnt from
EmpatheticDialogues' utterances is bound to that corpus's licence, which is non-commercial; the others are not.
"""

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from ablations import dev_scores
from experiments import ROOT, SEEDS, summarize_run, write_result
from mpnet import find_mpnet
from scipy.special import expit, logit
from ship import Logits, Splits, load_task, score

from emo_nb import SoftTargets
from emo_nb.classifier.soft_targets import LABEL_SHARE
from emo_nb.config import Config, TrainConfig
from emo_nb.corpora import load_corpus, normalize_text
from emo_nb.encode import TextDataset, encode_labels
from emo_nb.io.files import atomic_dir, atomic_file
from emo_nb.model import find_encoder, load_tokenizer, new_trainable_classifier, save_model
from emo_nb.predict import TrainedClassifier
from emo_nb.report import Run, open_run, utc_now
from emo_nb.run import run_experiment
from emo_nb.train import fit

FOLDER = ROOT / "runs" / "distillation"
# Smaller steps than MiniLM's, a longer warm-up, and rates that are more alike from layer to layer
TEACHER = {"method": "finetune", "epochs": 2, "learning_rate": 1e-4, "layer_decay": 0.85, "warmup_ratio": 0.15}


@dataclass(frozen=True)
class Student:
    "How a student differs from the recipe."

    what: str
    method: str = "finetune"
    epochs: int = 3
    label_share: float = LABEL_SHARE  # of the target of a comment; the rest is the teacher's probabilities
    utterances: bool = False  # also learns what the teacher says of EmpatheticDialogues' utterances
    seeds: tuple[int, ...] = SEEDS


STUDENTS = {
    "three epochs": Student("labels alone", label_share=1, seeds=SEEDS[:1]),
    "taught": Student("half of each target from the teacher"),
    "taught, by the teacher alone": Student("the whole target from the teacher", label_share=0, seeds=SEEDS[:1]),
    "taught, more texts": Student("and EmpatheticDialogues' utterances", epochs=2, utterances=True),
    "LoRA, taught": Student("half of each target from the teacher", "lora"),
    "LoRA, taught, more texts": Student("and EmpatheticDialogues' utterances", "lora", 2, utterances=True),
}


def train_teacher(seed: int) -> Run:
    "The teacher of a seed, trained where it is not there yet."
    folder = FOLDER / f"teacher-{seed}"
    if not (folder / "metrics.json").exists():
        options = {"task": "goemotions28", "encoder": find_mpnet(), "seed": seed, "out": folder, **TEACHER}
        run_experiment(Config.from_preset("full", **options))
    return open_run(folder)


@cache
def utterances() -> tuple[str, ...]:
    "EmpatheticDialogues' training utterances, each once."
    frame = load_corpus("empathetic").frame
    texts = frame.text[frame.split == "train"]
    return tuple(texts[~normalize_text(texts).duplicated()])


def save_targets(texts: Sequence[str], what: str) -> SoftTargets:
    "The mean of all teachers' probabilities for these texts; those of each are kept."
    of_each = []
    for folder in teachers():
        kept = FOLDER / f"{what}-of-{folder.name}.npz"
        if not kept.exists():
            print(f"\n{folder.name} on {len(texts):,} {what}", flush=True)
            SoftTargets.from_teacher(TrainedClassifier.from_pretrained(folder), texts).save(kept)
        of_each.append(SoftTargets.load(kept))
    first = of_each[0]
    return replace(first, proba=np.mean([targets.of(texts, first.labels) for targets in of_each], axis=0))


def teachers() -> list[Path]:
    "The folders of the teachers that are there."
    return sorted(FOLDER.glob("teacher-??"))


def train_model(
    texts: list[str],
    targets: np.ndarray,  # (n_texts, n_labels)
    splits: Splits,
    labels: list[str],
    settings: TrainConfig,
    seed: int = SEEDS[0],  # of the order of the rows; all models begin from one head, so that they can be averaged
    encoder: Path | None = None,  # MiniLM where it is not named
) -> tuple[Any, Any, dict[str, Any]]:
    "A model trained on these texts, its tokenizer, and its history with its speed; dev chooses the epoch."
    encoder, dev = encoder or find_encoder("minilm"), splits["dev"]
    tokenizer = load_tokenizer(encoder, settings.max_length)
    model = new_trainable_classifier(encoder, labels, settings, SEEDS[0], multi_label=True)
    data = TextDataset(texts, tokenizer, targets.astype(np.float32), multi_label=True)
    dev_data = TextDataset(list(dev.text), tokenizer, encode_labels(dev.targets, labels), multi_label=True)
    with TemporaryDirectory() as checkpoints:
        history = fit(model, tokenizer, data, dev_data, Path(checkpoints), settings, seed)
    return model, tokenizer, {**history.attrs, "epochs": history.to_dict("records")}


def train_student(name: str, seed: int, splits: Splits, labels: list[str]) -> Path:
    "The folder of a student, trained where it is not there yet: its model, its history, its logits of dev and test."
    student, folder = STUDENTS[name], student_folder(name, seed)
    if folder.exists():
        return folder
    print(f"\n{name}, seed {seed}: {student.what}", flush=True)
    texts, share = list(splits["train"].text), student.label_share
    wanted = encode_labels(splits["train"].targets, labels).astype(np.float32)
    if share < 1:
        wanted = share * wanted + (1 - share) * save_targets(texts, "comments").of(texts, labels)
    if student.utterances:
        more = save_targets(utterances(), "utterances").of(utterances(), labels)
        texts, wanted = [*texts, *utterances()], np.concatenate([wanted, more])
    settings = TrainConfig("minilm", method=student.method, epochs=student.epochs)
    model, tokenizer, history = train_model(texts, wanted, splits, labels, settings, seed)
    history["teachers"] = [folder.name for folder in teachers()] if share < 1 else []
    keep_model(folder, model, tokenizer, history, splits)
    return folder


def keep_model(folder: Path, model: Any, tokenizer: Any, history: dict[str, Any], splits: Splits) -> None:
    "Save a trained model, its history, and its logits of dev and test, in a folder that appears complete."
    with atomic_dir(folder, "model") as place:
        save_logits(TrainedClassifier(save_model(model, tokenizer, place).cpu().eval(), tokenizer), place, splits)
        (place / "history.json").write_text(json.dumps(history))


def student_folder(name: str, seed: int, parent: Path = FOLDER) -> Path:
    "Where the model of a name and a seed is kept; seed 0 is that of averaged weights."
    plain = re.sub(r"\W+", "_", name)
    return parent / f"{plain}-{seed}"


def save_logits(classifier: TrainedClassifier, folder: Path, splits: Splits) -> None:
    "A classifier's logits of dev and test, in its folder."
    logits = {name: classifier.logits(splits[name].text) for name in ("dev", "test")}
    with atomic_file(folder / "logits.npz") as temporary, open(temporary, "wb") as stream:
        np.savez(stream, **logits)


def read_logits(folder: Path) -> Logits:
    "The logits of dev and test that a model has left."
    with np.load(folder / "logits.npz") as arrays:
        return {name: arrays[name] for name in ("dev", "test")}


def average_weights(folders: list[Path], place: Path, splits: Splits) -> Path:
    "The model whose weights are the mean of several students' that began from one head; Wortsman et al. 2022, 2203.05482."
    if not place.exists():
        models = [TrainedClassifier.from_pretrained(folder) for folder in folders]
        states = [one.model.state_dict() for one in models]
        sums = {name: sum(state[name].double() for state in states) for name in states[0]}
        means = {name: (one / len(states)).to(states[0][name].dtype) for name, one in sums.items()}
        models[0].model.load_state_dict(means)
        with atomic_dir(place, "model") as folder:
            mean = save_model(models[0].model, models[0].tokenizer, folder)
            save_logits(TrainedClassifier(mean.cpu().eval(), models[0].tokenizer), folder, splits)
    return place


def settings_of_run(folder: Path) -> dict[str, Any]:
    "What a result file holds of a teacher's run, without its duration: it may have been interrupted."
    record = summarize_run(open_run(folder))
    return {key: value for key, value in record.items() if key not in ("seconds", "train_seconds")}


def summarize(what: str, folders: list[Path], splits: Splits, labels: list[str]) -> dict[str, Any]:
    "Of the seeds of a row: dev scores, test scores, histories; and the scores of their mean probability."
    truth, test_truth = (encode_labels(splits[name].targets, labels) for name in ("dev", "test"))
    logits = [read_logits(folder) for folder in folders]
    mean = {name: np.mean([expit(one[name]) for one in logits], axis=0) for name in ("dev", "test")}
    together = {name: logit(proba.clip(1e-7, 1 - 1e-7)) for name, proba in mean.items()}
    return {
        "what": what,
        "dev": [dev_scores(one["dev"], truth) for one in logits],
        "test": [score(one, splits, labels)["test"] for one in logits],
        "test_ranking": [dev_scores(one["test"], test_truth)["average_precision"] for one in logits],
        "dev_together": dev_scores(together["dev"], truth),
        "test_together": score(together, splits, labels)["test"],
        "test_ranking_together": dev_scores(together["test"], test_truth)["average_precision"],
        "history": [json.loads(file.read_text()) for folder in folders if (file := folder / "history.json").exists()],
    }


def write() -> None:
    "results/distillation.json from what is there."
    started = utc_now()
    splits, labels, files = load_task()
    rows = {}
    for name, student in STUDENTS.items():
        folders = [folder for seed in student.seeds if (folder := student_folder(name, seed)).exists()]
        if folders:
            rows[name] = summarize(student.what, folders, splits, labels)
            if len(folders) > 1:
                mean = average_weights(folders, student_folder(name, 0), splits)
                rows[f"{name}, weights averaged"] = summarize("the mean of their weights", [mean], splits, labels)
    for folder in teachers():
        if not (folder / "logits.npz").exists():
            save_logits(TrainedClassifier.from_pretrained(folder), folder, splits)
    record = {
        "settings": {folder.name: settings_of_run(folder) for folder in teachers()},
        "teachers": summarize("109 million parameters", teachers(), splits, labels),
        "students": rows,
        "files": files,
    }
    write_result("distillation", record, started)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", nargs="?", choices=("teachers", "targets", "students", "write"))
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="seeds of teachers, or names of students; default: all"
    )
    options = parser.parse_args(arguments)
    step, names = options.step, options.names
    splits, labels, _ = load_task()
    if step in (None, "teachers"):
        for seed in names or SEEDS:
            train_teacher(int(seed))
    if step in (None, "targets"):
        save_targets(list(splits["train"].text), "comments")
        save_targets(utterances(), "utterances")
    if step in (None, "students"):
        for name in names or STUDENTS:
            for seed in STUDENTS[name].seeds:
                train_student(name, seed, splits, labels)
    if step in (None, "write"):
        write()


if __name__ == "__main__":
    main()

"""Make the files in results/ anew: `python tools/results.py [PART ...]`; without a part, all of them.

Every training is a run of its own, by the command that stands in its record, below runs/results/. A run that
is already there is used as it is, so that a part can be made again or added without training everything;
`--anew` makes them all again.
"""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from emo_nb.baselines import BASELINES, baseline, mean_states
from emo_nb.compare import by_part, compare, corpus_probe, leaks
from emo_nb.config import Config
from emo_nb.core import whole_file
from emo_nb.corpora import load, read
from emo_nb.evaluate import OVERALL, indicators, metrics, predictions
from emo_nb.model import find_encoder, tokenizer_of
from emo_nb.predict import EmotionClassifier
from emo_nb.prepare import label_for
from emo_nb.run import choose_rows, gather
from emo_nb.rundir import Run, open_run, provenance, utc_now
from emo_nb.sources import places
from emo_nb.taxonomy import task_named

ROOT = Path(__file__).resolve().parent.parent
RUNS, RESULTS = ROOT / "runs" / "results", ROOT / "results"
SEEDS = (42, 43, 44)
KEPT = (
    *("command", "date", "seconds", "train_seconds", "memory_mb", "task", "corpus", "profile", "encoder", "method"),
    *("split", "unit", "seed", "rows", "parameters", "calibration", "thresholds", "files", "versions", "hardware"),
)


def made(name: str, *options: str) -> Run:
    "The run of that name, with all rows and the bundled encoder; trained where it is not there yet."
    folder = RUNS / name
    if not (folder / "metrics.json").exists():
        words = ["run", "--profile", "full", "--encoder", "minilm", *options, "--out", str(folder.relative_to(ROOT))]
        print(f"\n$ emo-nb {shlex.join(words)}", flush=True)
        subprocess.run([Path(sys.executable).with_name("emo-nb"), *words], cwd=ROOT, check=True)
    return open_run(folder)


def kept(run: Run) -> dict[str, Any]:
    "What a result file holds of a run."
    sizes = {
        part: round(sum(f.stat().st_size for f in (run.folder / part).iterdir()) / 1e6, 1)
        for part in ("model", "adapter")
        if (run.folder / part).is_dir()
    }
    history = pd.read_csv(run.folder / "history.csv").to_dict("records")
    return {**{key: run.config[key] for key in KEPT}, "size_mb": sizes, "history": history, "metrics": run.metrics}


def spread(runs: list[Run]) -> dict[str, dict[str, dict[str, float]]]:
    "Mean and standard deviation over seeds of each overall score, for each corpus."
    table = {}
    for corpus in runs[0].metrics:
        scores = pd.DataFrame([run.metrics[corpus] for run in runs])[[*OVERALL, "calibration_error"]].astype(float)
        table[corpus] = {"mean": scores.mean().round(4).to_dict(), "sd": scores.std(ddof=1).round(4).to_dict()}
    return table


def parts_of(run: Run) -> tuple[dict[str, pd.DataFrame], list[str], bool]:
    "The rows that a run was made of, its labels, and whether a text may have several."
    config = Config.of(run.config)
    material = gather(config, say=lambda line: None)
    return choose_rows(material.rows, material.task, config), run.config["labels"], run.config["multi_label"]


def write(name: str, record: dict[str, Any], started: Any) -> None:
    "results/NAME.json, with where it came from."
    about = {**provenance(started), "command": f"make results PART={name}"}
    with whole_file(RESULTS / f"{name}.json") as beside:
        beside.write_text(json.dumps({**about, **record}, indent=1) + "\n")
    print(f"results/{name}.json written", flush=True)


def a_task(name: str) -> None:
    "Three seeds of full fine-tuning and of LoRA, the baselines on the same rows, and paired differences."
    started = utc_now()
    runs = {
        method: [made(f"{name}-{method}-{s}", "--task", name, "--method", method, "--seed", str(s)) for s in SEEDS]
        for method in ("full", "lora")
    }
    first = runs["full"][0]
    parts, labels, several = parts_of(first)
    minilm = find_encoder("minilm")
    simple = {}
    for kind in BASELINES:
        table, cuts = baseline(kind, parts, labels, several, minilm, tokenizer_of(minilm, max_length=256))
        simple[kind] = metrics(table, labels, cuts)
        if kind == "words":
            gain = compare(table, first.predictions, labels)
    record = {
        "runs": {method: [kept(run) for run in made_runs] for method, made_runs in runs.items()},
        "seeds": {method: spread(made_runs) for method, made_runs in runs.items()},
        "baselines": simple,
        "paired": {
            "full over words": gain,
            "full over lora": compare(runs["lora"][0].predictions, first.predictions, labels),
        },
    }
    write(name, record, started)


def the_leaks() -> None:
    "GoEmotions' official test texts against the whole official training part, and scores with and without them."
    started = utc_now()
    run = made("goemotions28-full-42", "--task", "goemotions28", "--method", "full", "--seed", "42")
    frame = load("goemotions").frame
    train = frame[frame.split == "train"].text
    test = run.predictions.text
    minilm = find_encoder("minilm")
    states = [mean_states(texts, minilm, tokenizer_of(minilm, max_length=256)) for texts in (test, train)]
    found = leaks(test, train, *states)
    clean = pd.Series(np.where(found.leak == "none", "not in train", "in train, " + found.leak))
    merged = pd.Series(np.where(found.leak == "none", "without leaks", "leaks"))
    record = {
        "counts": found.leak.value_counts().to_dict(),
        "train_rows": len(train),
        "by_leak": by_part(run.predictions, run.config["labels"], clean).to_dict("index"),
        "by_part": by_part(run.predictions, run.config["labels"], merged).to_dict("index"),
        "all": run.metrics["goemotions"],
    }
    write("leaks", record, started)


def the_splits() -> None:
    "What the study's random split of rows is worth: the same task, trained and tested on both splits."
    started = utc_now()
    runs = {
        how: made(f"shared10-both-{how}-42", "--method", "full", "--split", how, "--seed", "42")
        for how in ("group", "study")
    }
    write("splits", {"runs": {how: kept(run) for how, run in runs.items()}}, started)


def the_corpora() -> None:
    "Training corpus down, test corpus across; the probe; roles; raters who agreed and who did not."
    started = utc_now()
    runs = {
        name: made(
            f"shared10-{name}-group-42", "--corpus", name, "--method", "full", "--split", "group", "--seed", "42"
        )
        for name in ("goemotions", "empathetic")
    }
    runs["both"] = made("shared10-both-group-42", "--method", "full", "--split", "group", "--seed", "42")
    parts, labels, _ = parts_of(runs["both"])
    test = parts["test"].reset_index(drop=True)
    shared = sorted(set.intersection(*(set(rows.label) for _, rows in test.groupby("corpus", observed=True))))
    matrix, tables = {}, {}
    for name, run in runs.items():
        classifier = EmotionClassifier.load(run.folder, mixed=True)
        proba = pd.DataFrame(0.0, index=test.index, columns=labels)
        proba[classifier.labels] = classifier.predict_proba(test.text, progress=True)
        tables[name] = table = predictions(test, proba.to_numpy(), labels)
        matrix[name] = over_shared(table, shared)
    both = tables["both"]
    empathetic = both[both.corpus == "empathetic"]
    record = {
        "runs": {name: kept(run) for name, run in runs.items()},
        "shared_labels": shared,
        "matrix": matrix,
        "paired": {
            f"both over {name}, on {name}": compare(*(t[t.corpus == name] for t in (tables[name], both)), labels)
            for name in ("goemotions", "empathetic")
        },
        "probe": corpus_probe(parts["train"], parts["test"], labels),
        "roles": {
            **by_part(empathetic, labels, empathetic.role).to_dict("index"),
            **prompts(runs["both"], empathetic, labels),
        },
        "raters": raters(both[both.corpus == "goemotions"], labels),
    }
    write("corpora", record, started)


def over_shared(table: pd.DataFrame, shared: list[str]) -> dict[str, Any]:
    "Macro-F1 over the labels that both corpora have, on the rows that have one of them, for each test corpus."
    rows = table[table.label.isin(shared)]
    where = pd.concat([rows, rows], ignore_index=True)
    which = pd.concat([rows.corpus.astype(str), pd.Series("both", index=rows.index)], ignore_index=True)
    return by_part(where, shared, which).to_dict("index")


def prompts(run: Run, tested: pd.DataFrame, labels: list[str]) -> dict[str, Any]:
    "The same model on the prompts of the conversations that it was tested on."
    frame = load("empathetic", unit="prompt").frame
    rows = label_for(frame[frame.group.isin(tested.group)], task_named("shared10"))
    proba = EmotionClassifier.load(run.folder, mixed=True).predict_proba(rows.text)
    table = predictions(rows, proba, labels)
    return by_part(table, labels, table.role).to_dict("index")


def raters(table: pd.DataFrame, labels: list[str]) -> dict[str, Any]:
    "Test comments of which single raters' answers are at hand: did each of these name the label that was kept?"
    raw = sorted(hit for _, place in places() for hit in place.glob("go*emotions*sample.csv"))
    said = pd.concat([read(path).frame for path in raw]).groupby("group").labels.agg(list)
    known = table[table.group.isin(said.index)]
    agreed = [all(label in one for one in said[group]) for group, label in zip(known.group, known.label, strict=True)]
    return by_part(known, labels, pd.Series(np.where(agreed, "raters agree", "a rater differs"))).to_dict("index")


def the_ablations() -> None:
    "One change at a time to the recipe, scored on dev."
    from ablations import ablations

    started = utc_now()
    write("ablations", ablations(), started)


def the_units() -> None:
    "What counts as one text of EmpatheticDialogues: an utterance, the speaker's turns, the dialogue, the prompt."
    started = utc_now()
    units = ("utterance", "speaker", "dialogue", "prompt")
    words = ("--task", "empathetic32", "--method", "full", "--seed", "42")
    runs = {unit: made(f"empathetic32-full-42-{unit}", *words, "--unit", unit) for unit in units[:-1]}
    runs["prompt"] = made("empathetic32-full-42", *words)
    write("units", {"runs": {unit: kept(run) for unit, run in runs.items()}}, started)


def the_errors() -> None:
    "Which label is given for which, and test rows whose own label looks wrong to the model."
    started = utc_now()
    record = {}
    for task in ("goemotions28", "empathetic32"):
        run = made(f"{task}-full-42", "--task", task, "--method", "full", "--seed", "42")
        labels = run.config["labels"]
        truth, said = (indicators(run.predictions[column], labels) for column in ("label", "predicted"))
        missed, wrong = truth & ~said, said & ~truth
        counts = missed.T.astype(int) @ wrong.astype(int)
        proba = run.predictions[labels].to_numpy()
        doubted = truth & (proba < 0.02) & (proba.max(axis=1, keepdims=True) > 0.8)
        record[task] = {
            "labels": labels,
            "rows": truth.sum(axis=0).tolist(),
            "missed_for": counts.tolist(),
            "doubted": dict(zip(labels, doubted.sum(axis=0).tolist(), strict=True)),
        }
    write("errors", record, started)


PARTS = {name: lambda name=name: a_task(name) for name in ("goemotions28", "ekman7", "sentiment4", "empathetic32")}
PARTS |= {"leaks": the_leaks, "splits": the_splits, "corpora": the_corpora}
PARTS |= {"units": the_units, "errors": the_errors, "ablations": the_ablations}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one of: {', '.join(PARTS)}")
    parser.add_argument("--anew", action="store_true", help="train again, also what is already there")
    words = parser.parse_args()
    if unknown := [part for part in words.parts if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}; the parts are: {', '.join(PARTS)}")
    if words.anew and RUNS.exists():
        import shutil

        shutil.rmtree(RUNS)
    for part in words.parts or PARTS:
        PARTS[part]()


if __name__ == "__main__":
    main()

"""Make the files in results/ anew: `python tools/results.py [PART ...]`; without a part, all of them.

Every training is a run of its own, by the command that stands in its record, below runs/results/. A run that
is already there is used as it is, so that a part can be made again or added without training everything;
`--anew` makes them all again.
"""

import argparse
import shutil
from typing import Any

import numpy as np
import pandas as pd
from ablations import SEEDS as NAMES
from ablations import ablations
from experiments import ROOT, RUNS, SEEDS, kept, made, of_task, parts_of, spread, write

from emo_nb.baselines import BASELINES, baseline, mean_states
from emo_nb.compare import by_part, compare, corpus_probe, leaks
from emo_nb.corpora import load, read
from emo_nb.evaluate import indicators, metrics, predictions
from emo_nb.model import find_encoder, tokenizer_of
from emo_nb.predict import EmotionClassifier
from emo_nb.prepare import label_for
from emo_nb.results import OURS, beside_published, plot_scores
from emo_nb.rundir import Run, utc_now
from emo_nb.sources import places
from emo_nb.taxonomy import task_named

ALL, FIRST = {"full": SEEDS, "lora": SEEDS}, {"full": SEEDS, "lora": SEEDS[:1]}
SAME = ["corpus", "group", "role", "text"]  # what makes two rows of a test set the same
TASKS = {"goemotions28": ALL, "empathetic32": ALL, "ekman7": FIRST, "sentiment4": FIRST}  # seeds of each method


def a_task(name: str) -> None:
    "Several seeds of full fine-tuning and of LoRA, the baselines on the same rows, and paired differences."
    started = utc_now()
    runs = {method: [of_task(name, method, seed) for seed in TASKS[name][method]] for method in ("full", "lora")}
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
    run = of_task("goemotions28")
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
    record = {"runs": {how: kept(run) for how, run in runs.items()}, "paired": {}}
    tables = [run.predictions.drop_duplicates(SAME) for run in runs.values()]
    common = tables[0][SAME].merge(tables[1][SAME])  # neither has trained on them; the second on their neighbours
    first, second = (common.merge(table, on=SAME) for table in tables)
    for corpus in ("goemotions", "empathetic"):
        pair = [table[table.corpus == corpus].reset_index(drop=True) for table in (first, second)]
        scores = {
            how: metrics(t, runs[how].config["labels"])[corpus]["macro_f1"] for how, t in zip(runs, pair, strict=True)
        }
        gap = compare(*pair, runs["group"].config["labels"])
        record["paired"][corpus] = {"rows": len(pair[0]), "scores": scores, **gap}
    write("splits", record, started)


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
        classifier = EmotionClassifier.load(run.folder)
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
    proba = EmotionClassifier.load(run.folder).predict_proba(rows.text)
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
    started = utc_now()
    runs = {name: of_task("goemotions28", seed=seed) for name, seed in zip(NAMES, SEEDS, strict=True)}
    runs["LoRA"] = of_task("goemotions28", "lora")
    write("ablations", ablations(runs), started)


def the_units() -> None:
    "What counts as one text of EmpatheticDialogues: an utterance, the speaker's turns, the dialogue, the prompt."
    started = utc_now()
    units = ("utterance", "speaker", "dialogue", "prompt")
    words = ("--task", "empathetic32", "--method", "full", "--seed", "42")
    runs = {unit: made(f"empathetic32-full-42-{unit}", *words, "--unit", unit) for unit in units[:-1]}
    runs["prompt"] = of_task("empathetic32")
    write("units", {"runs": {unit: kept(run) for unit, run in runs.items()}}, started)


def the_errors() -> None:
    "Which label is given for which, the surest mistakes, and test rows whose own label looks wrong to the model."
    started = utc_now()
    runs = {task: of_task(task) for task in ("goemotions28", "empathetic32")}
    runs["shared10"] = made("shared10-both-group-42", "--method", "full", "--split", "group", "--seed", "42")
    record = {}
    for task, run in runs.items():
        labels, table = run.config["labels"], run.predictions
        truth, said = (indicators(table[column], labels) for column in ("label", "predicted"))
        proba = table[labels].to_numpy()
        wrong = said & ~truth
        doubted = (truth & (proba < 0.02)).any(axis=1) & ((proba > 0.8) & ~truth).any(axis=1)
        record[task] = {
            "labels": labels,
            "rows": truth.sum(axis=0).tolist(),
            "missed_for": ((truth & ~said).T.astype(int) @ wrong.astype(int)).tolist(),
            "doubted": (truth[doubted] & (proba[doubted] < 0.02)).sum(axis=0).tolist(),
            "surest": surest(table, proba * wrong, labels),
        }
    write("errors", record, started)


def surest(table: pd.DataFrame, proba: np.ndarray, labels: list[str], most: int = 60) -> list[Any]:
    "The short test texts that a wrong label was given to most surely: ids and what was said, not the texts."
    sure = proba.max(axis=1)  # of the labels wrongly given
    short = (table.text.str.len() <= 100).to_numpy() & (sure > 0)
    return [
        {
            "id": table.group[i],
            "label": table.label[i],
            "predicted": labels[proba[i].argmax()],
            "probability": round(float(sure[i]), 3),
        }
        for i in np.argsort(-sure * short, kind="stable")[:most]
        if short[i]
    ]


def the_picture() -> None:
    "The bars of the landing page."
    figure = plot_scores(beside_published("goemotions28"), "GoEmotions, 28 labels: macro-F1, official test set", OURS)
    (ROOT / "nbs/images").mkdir(exist_ok=True)
    figure.savefig(ROOT / "nbs/images/goemotions28.png", dpi=150)


PARTS = {name: lambda name=name: a_task(name) for name in TASKS}
PARTS |= {"leaks": the_leaks, "splits": the_splits, "corpora": the_corpora}
PARTS |= {"units": the_units, "errors": the_errors, "ablations": the_ablations, "picture": the_picture}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one of: {', '.join(PARTS)}")
    parser.add_argument("--anew", action="store_true", help="train again, also what is already there")
    words = parser.parse_args()
    if unknown := [part for part in words.parts if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}; the parts are: {', '.join(PARTS)}")
    if words.anew and RUNS.exists():
        shutil.rmtree(RUNS)
    for part in words.parts or PARTS:
        PARTS[part]()


if __name__ == "__main__":
    main()

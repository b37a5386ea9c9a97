"""Make the files in results/ anew: `python tools/results.py [PART ...]`; without a part, all of them.

Every training is a run of its own, by the command that stands in its record, below runs/results/. A run that
is already there is used as it is, so that a part can be made again or added without training everything;
`--anew` makes them all again. The parts that are programs of their own (`TOOLS`) keep what they train in other folders
of runs/, which `--anew` leaves alone.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from ablations import SEEDS as SEED_VARIANTS
from ablations import ablations
from brighter import compare_with_brighter
from experiments import (
    ROOT,
    RUNS,
    SEEDS,
    load_splits,
    summarize_run,
    summarize_seeds,
    train_run,
    train_shared,
    train_task,
    write_result,
)

from emo_nb.corpora import load_corpus, read_corpus
from emo_nb.evaluate import compute_metrics, group_keys, prediction_table, truth_and_predicted
from emo_nb.model import find_encoder, load_tokenizer
from emo_nb.plots import plot_scores
from emo_nb.predict import TrainedClassifier
from emo_nb.prepare import map_labels
from emo_nb.report import Run, utc_now
from emo_nb.sources import search_places
from emo_nb.study.baselines import BASELINES, baseline, mean_embeddings
from emo_nb.study.compare import compare_paired, find_leaks, probe_corpus, scores_by_part
from emo_nb.study.results import PROJECT, comparison_table
from emo_nb.taxonomy import get_task

ALL_SEEDS: dict[str, tuple[int, ...]] = {"finetune": SEEDS, "lora": SEEDS}
ONE_LORA_SEED: dict[str, tuple[int, ...]] = {"finetune": SEEDS, "lora": SEEDS[:1]}
TASK_SEEDS = {  # the seeds of each method
    "goemotions28": ALL_SEEDS,
    "empathetic32": ALL_SEEDS,
    "ekman7": ONE_LORA_SEED,
    "sentiment4": ONE_LORA_SEED,
}
ROW_KEY = ["corpus", "group", "role", "text"]  # what makes two rows of a test set the same


def compare_methods(task: str) -> None:
    """Several seeds of fine-tuning and of LoRA, the baselines on the same rows, and paired differences.

    Writes results/TASK.json: `runs` and `seeds` for each method, `baselines` for each kind, and `paired`, the
    differences in macro-F1 between the first seeds.
    """
    started = utc_now()
    runs = {method: [train_task(task, method, seed) for seed in seeds] for method, seeds in TASK_SEEDS[task].items()}
    first = runs["finetune"][0]
    labels, multi_label = first.config["labels"], first.config["multi_label"]
    splits, minilm = load_splits(first), find_encoder("minilm")
    tokenizer = load_tokenizer(minilm, max_length=256)
    tables: dict[str, pd.DataFrame] = {}
    baselines: dict[str, Any] = {}
    for kind in BASELINES:
        tables[kind], thresholds = baseline(kind, splits, labels, multi_label, minilm, tokenizer)
        baselines[kind] = compute_metrics(tables[kind], labels, thresholds)
    record = {
        "runs": {method: [summarize_run(run) for run in of_method] for method, of_method in runs.items()},
        "seeds": {method: summarize_seeds(of_method) for method, of_method in runs.items()},
        "baselines": baselines,
        "paired": {
            "finetune over tfidf": compare_paired(tables["tfidf"], first.predictions, labels),
            "finetune over lora": compare_paired(runs["lora"][0].predictions, first.predictions, labels),
        },
    }
    write_result(task, record, started)


def measure_leaks() -> None:
    "GoEmotions' official test texts beside the whole official training part, and scores with and without the leaks."
    started = utc_now()
    run = train_task("goemotions28")
    labels, table = run.config["labels"], run.predictions
    frame = load_corpus("goemotions").frame
    train, test = frame[frame.split == "train"].text, table.text
    minilm = find_encoder("minilm")
    tokenizer = load_tokenizer(minilm, max_length=256)
    leaks = find_leaks(test, train, *(mean_embeddings(texts, minilm, tokenizer) for texts in (test, train)))
    is_clean = leaks.leak == "none"
    by_kind = pd.Series(np.where(is_clean, "not in train", "in train, " + leaks.leak))
    by_part = pd.Series(np.where(is_clean, "without leaks", "leaks"))
    record = {
        "counts": leaks.leak.value_counts().to_dict(),
        "train_rows": len(train),
        "by_leak": scores_by_part(table, labels, by_kind).to_dict("index"),
        "by_part": scores_by_part(table, labels, by_part).to_dict("index"),
        "all": run.metrics["goemotions"],
    }
    write_result("leaks", record, started)


def compare_splits() -> None:
    """What the study's random split of rows is worth: the same task, trained and tested on both splits.

    The two runs are compared on the test rows that both splits have: neither has trained on them, but the study's
    has trained on other utterances of the same conversations.
    """
    started = utc_now()
    runs = {split: train_shared(split=split) for split in ("group", "study")}
    labels = runs["group"].config["labels"]
    record: dict[str, Any] = {"runs": {split: summarize_run(run) for split, run in runs.items()}, "paired": {}}
    tables = [run.predictions.drop_duplicates(ROW_KEY) for run in runs.values()]
    common = tables[0][ROW_KEY].merge(tables[1][ROW_KEY])
    tables = [common.merge(table, on=ROW_KEY) for table in tables]
    for corpus in ("goemotions", "empathetic"):
        pair = [table[table.corpus == corpus].reset_index(drop=True) for table in tables]
        scores = {
            split: compute_metrics(table, run.config["labels"])[corpus]["macro_f1"]
            for (split, run), table in zip(runs.items(), pair, strict=True)
        }
        record["paired"][corpus] = {"rows": len(pair[0]), "scores": scores, **compare_paired(pair[0], pair[1], labels)}
    write_result("splits", record, started)


def compare_corpora() -> None:
    """Each training corpus on each test corpus; the corpus probe; who wrote the text; raters who agree and who do not.

    Writes results/corpora.json: `matrix` (training corpus, test corpus) and `paired` (both corpora over one, on that
    one), on the rows that every run holds out for testing; `probe`, `roles` and `raters`, on all test rows of the run
    on both corpora; `brighter`, the matrix with a third corpus over its five emotions.
    """
    started = utc_now()
    runs = {name: train_shared(name) for name in ("goemotions", "empathetic", "both")}
    splits, labels = {name: load_splits(run) for name, run in runs.items()}, runs["both"].config["labels"]
    test = splits["both"]["test"].reset_index(drop=True)
    tables = {name: predict_all_labels(run, test, labels) for name, run in runs.items()}
    both = tables["both"]
    empathetic = both[both.corpus == "empathetic"]
    # each run draws its own split, so some of these test rows are training rows of the runs on one corpus
    tested_by_one = pd.concat([splits[name]["test"] for name in ("goemotions", "empathetic")])
    is_held_out = group_keys(test).isin(group_keys(tested_by_one))
    held_out = {name: table[is_held_out] for name, table in tables.items()}
    targets = test[is_held_out].groupby("corpus", observed=True).targets
    shared = sorted(set.intersection(*(set(rows.explode()) for _, rows in targets)))
    record = {
        "runs": {name: summarize_run(run) for name, run in runs.items()},
        "shared_labels": shared,
        "held_out_rows": targets.size().to_dict(),
        "matrix": {name: scores_on_shared_labels(table, shared) for name, table in held_out.items()},
        "paired": {
            f"both over {name}, on {name}": compare_paired(
                held_out[name][held_out[name].corpus == name], held_out["both"][held_out["both"].corpus == name], labels
            )
            for name in ("goemotions", "empathetic")
        },
        "probe": probe_corpus(splits["both"]["train"], splits["both"]["test"], labels),
        "roles": {
            **scores_by_part(empathetic, labels, empathetic.role).to_dict("index"),
            **scores_on_prompts(runs["both"], empathetic, labels),
        },
        "raters": scores_by_agreement(both[both.corpus == "goemotions"], labels),
        "brighter": compare_with_brighter(runs, test[is_held_out]),
    }
    write_result("corpora", record, started)


def predict_all_labels(run: Run, rows: pd.DataFrame, labels: list[str]) -> pd.DataFrame:
    "A run's prediction table over `labels`; those that it was not trained on get probability 0."
    classifier = TrainedClassifier.from_pretrained(run.folder)
    proba = pd.DataFrame(0.0, index=rows.index, columns=labels)
    proba[classifier.labels] = classifier.predict_proba(rows.text, show_progress_bar=True)
    return prediction_table(rows, proba.to_numpy(), labels)


def scores_on_shared_labels(table: pd.DataFrame, shared: list[str]) -> dict[str, Any]:
    "Scores over the labels that both corpora have, on the rows with one of them, for each test corpus and `both`."
    rows = table[table.label.isin(shared)]
    rows = rows.assign(predicted=rows.predicted.where(rows.predicted.isin(shared), ""))  # neutral counts as a miss
    twice = pd.concat([rows, rows], ignore_index=True)
    part = pd.concat([rows.corpus.astype(str), pd.Series("both", index=rows.index)], ignore_index=True)
    return scores_by_part(twice, shared, part).to_dict("index")


def scores_on_prompts(run: Run, tested: pd.DataFrame, labels: list[str]) -> dict[str, Any]:
    "Scores of a run on the prompts of the conversations that it was tested on."
    frame = load_corpus("empathetic", text_unit="prompt").frame
    rows = map_labels(frame[frame.group.isin(tested.group)], get_task("shared10"))
    proba = TrainedClassifier.from_pretrained(run.folder).predict_proba(rows.text)
    table = prediction_table(rows, proba, labels)
    return scores_by_part(table, labels, table.role).to_dict("index")


def scores_by_agreement(table: pd.DataFrame, labels: list[str]) -> dict[str, Any]:
    "Scores on the test comments whose raters' answers are at hand: did each rater name the label that was kept?"
    files = sorted(file for _, folder in search_places() for file in folder.glob("go*emotions*sample.csv"))
    answers = pd.concat([read_corpus(file).frame for file in files]).groupby("group").labels.agg(list)
    known = table[table.group.isin(answers.index)]
    agreed = [
        all(label in answer for answer in answers[group]) for group, label in zip(known.group, known.label, strict=True)
    ]
    part = pd.Series(np.where(agreed, "raters agree", "a rater differs"))
    return scores_by_part(known, labels, part).to_dict("index")


def measure_choices() -> None:
    "One change at a time to the recipe, scored on dev."
    started = utc_now()
    runs = {name: train_task("goemotions28", seed=seed) for name, seed in zip(SEED_VARIANTS, SEEDS, strict=True)}
    runs["LoRA"] = train_task("goemotions28", "lora")
    write_result("ablations", ablations(runs), started)


def compare_units() -> None:
    "What counts as one text of EmpatheticDialogues: an utterance, the speaker's turns, the dialogue or the prompt."
    started = utc_now()
    options = ("--task", "empathetic32", "--method", "finetune", "--seed", str(SEEDS[0]))
    runs = {
        unit: train_run(f"empathetic32-finetune-{SEEDS[0]}-{unit}", *options, "--text-unit", unit)
        for unit in ("utterance", "speaker", "dialogue")
    }
    runs["prompt"] = train_task("empathetic32")
    write_result("units", {"runs": {unit: summarize_run(run) for unit, run in runs.items()}}, started)


def collect_errors() -> None:
    """Which label is predicted for which, the most confident mistakes, and labels that the model doubts.

    Writes results/errors.json. For each task: `rows`, how many test rows have each label; `missed_for`, how often a
    label was missed and another predicted in its row; `doubted`, how often a label got a probability below 0.02 in a
    row where a wrong one got more than 0.8; and `surest`, the ids of the most confident mistakes.
    """
    started = utc_now()
    runs = {task: train_task(task) for task in ("goemotions28", "empathetic32")}
    runs["shared10"] = train_shared()
    record = {}
    for task, run in runs.items():
        labels, table = run.config["labels"], run.predictions
        truth, predicted = truth_and_predicted(table, labels)
        proba = table[labels].to_numpy()
        wrong = predicted & ~truth
        doubted = (truth & (proba < 0.02)).any(axis=1) & ((proba > 0.8) & ~truth).any(axis=1)
        record[task] = {
            "labels": labels,
            "rows": truth.sum(axis=0).tolist(),
            "missed_for": ((truth & ~predicted).T.astype(int) @ wrong.astype(int)).tolist(),
            "doubted": (truth[doubted] & (proba[doubted] < 0.02)).sum(axis=0).tolist(),
            "surest": most_confident_errors(table, proba * wrong, labels),
        }
    write_result("errors", record, started)


def most_confident_errors(
    table: pd.DataFrame,
    proba: np.ndarray,  # (n_rows, n_labels): of the labels wrongly predicted, 0 elsewhere
    labels: Sequence[str],
    n: int = 60,
    max_characters: int = 100,
) -> list[dict[str, Any]]:
    "The `n` short texts whose wrong label has the highest probability: ids and labels only, not the texts."
    confidence = proba.max(axis=1)
    is_candidate = (table.text.str.len() <= max_characters).to_numpy() & (confidence > 0)
    return [
        {
            "id": table.group[i],
            "label": table.label[i],
            "predicted": labels[proba[i].argmax()],
            "probability": round(float(confidence[i]), 3),
        }
        for i in np.argsort(-confidence * is_candidate, kind="stable")[:n]
        if is_candidate[i]
    ]


TOOLS = {  # parts that are programs of their own, which say what they do
    "encoders": ["encoders.py"],
    "ways": ["ways.py"],
    "distillation": ["distillation.py"],
    "one_teacher": [
        *("distillation.py", "taught", "taught, more texts", "LoRA, taught"),
        *("--teachers", "42", "--result", "one_teacher"),
    ],
    "taught_empathetic32": [
        *("distillation.py", "taught", "taught, more texts"),
        *("--task", "empathetic32", "--teachers", "42", "--result", "taught_empathetic32"),
    ],
    "fast": ["fast.py"],
    "agreement": ["agreement.py"],
    "feelings": ["feelings.py"],
}


def run_tool(name: str) -> None:
    "A part that is a program of its own."
    program, *options = TOOLS[name]
    subprocess.run([sys.executable, ROOT / "tools" / program, *options], cwd=ROOT, check=True)


def measure_static() -> None:
    "Static embeddings on the same rows."
    try:
        import static_embeddings
    except ModuleNotFoundError as error:
        raise SystemExit(
            f"{error.name} is not installed; .venv/bin/pip install -c constraints.txt -e '.[peers]'"
        ) from error
    static_embeddings.measure_static()


def draw_picture() -> None:
    "The bars of the landing page, nbs/images/goemotions28.png."
    title = "GoEmotions, 28 labels: macro-F1, official test set"
    figure = plot_scores(comparison_table("goemotions28"), title, PROJECT)
    (ROOT / "nbs/images").mkdir(exist_ok=True)
    figure.savefig(ROOT / "nbs/images/goemotions28.png", dpi=150)


PARTS: dict[str, Callable[[], None]] = {task: partial(compare_methods, task) for task in TASK_SEEDS}
PARTS |= {"leaks": measure_leaks, "splits": compare_splits, "corpora": compare_corpora, "units": compare_units}
PARTS |= {"errors": collect_errors, "ablations": measure_choices, "static": measure_static}
PARTS |= {name: partial(run_tool, name) for name in TOOLS} | {"picture": draw_picture}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one of: {', '.join(PARTS)}")
    parser.add_argument("--anew", action="store_true", help="train again, also what is already there")
    arguments = parser.parse_args()
    if unknown := [part for part in arguments.parts if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}; the parts are: {', '.join(PARTS)}")
    if arguments.anew and RUNS.exists():
        shutil.rmtree(RUNS)
    for part in arguments.parts or PARTS:
        PARTS[part]()


if __name__ == "__main__":
    main()

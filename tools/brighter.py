"""BRIGHTER's English texts beside the two corpora: five emotions, each training corpus on each test corpus.

Called by tools/results.py. All are scored alike: on the rows that have exactly one of the five emotions, the most
probable of the five counts. The models in the package are scored as they are, too, where a text may have several
emotions or none. Nothing is chosen on BRIGHTER's test rows.
"""

from pathlib import Path
from typing import Any

import pandas as pd
from experiments import RUNS, SEEDS
from feelings import Table, read_brighter

from emo_nb import EmotionClassifier
from emo_nb.evaluate import compute_metrics, prediction_table
from emo_nb.io.files import atomic_dir
from emo_nb.predict import TrainedClassifier
from emo_nb.report import Run
from emo_nb.study.compare import compare_paired, scores_by_part
from emo_nb.taxonomy import BRIGHTER

EPOCHS = 6  # at most; dev chooses


def compare_with_brighter(runs: dict[str, Run], test: pd.DataFrame) -> dict[str, Any]:
    """The `matrix` of training and test corpora over the five emotions, `paired`, and the models in the `package`.

    `runs` are of the ten shared emotions; `test` are rows that none of them has trained on.
    """
    table = read_brighter()
    rows = pd.concat([test, table.splits["test"]], ignore_index=True)
    rows = rows[[len(labels) == 1 and labels[0] in BRIGHTER for labels in rows.targets]].reset_index(drop=True)
    folders = {name: run.folder for name, run in runs.items()} | {"brighter": train_on_brighter(table)}
    tables = {name: predict_five(folder, rows) for name, folder in folders.items()}
    on_brighter = {name: table[rows.corpus == "brighter"] for name, table in tables.items()}
    return {
        "test_rows": rows.corpus.value_counts().to_dict(),
        "train_rows": len(table.splits["train"]),
        "files": table.files,
        "matrix": {
            name: scores_by_part(one, list(BRIGHTER), one.corpus).to_dict("index") for name, one in tables.items()
        },
        "paired": {
            "empathetic over goemotions, on brighter": compare_paired(
                on_brighter["goemotions"], on_brighter["empathetic"], list(BRIGHTER)
            )
        },
        "package": {name: score_package(name, table) for name in ("goemotions28", "ekman7")},
    }


def train_on_brighter(table: Table) -> Path:
    "The folder of a model of MiniLM's every layer, trained on BRIGHTER where it is not there yet."
    folder = RUNS / f"brighter-finetune-{SEEDS[0]}"
    if not folder.exists():
        train, dev = table.splits["train"], table.splits["dev"]
        classifier = EmotionClassifier("minilm", "finetune", epochs=EPOCHS, random_state=SEEDS[0])
        classifier.fit(train.text, list(map(list, train.targets)), eval_set=(dev.text, list(map(list, dev.targets))))
        with atomic_dir(folder, "config.json") as place:
            classifier.save_pretrained(place)
    return folder


def predict_five(folder: Path, rows: pd.DataFrame) -> pd.DataFrame:
    "A model's prediction table over the five emotions, of which the most probable counts."
    classifier = TrainedClassifier.from_pretrained(folder)
    columns = [classifier.labels.index(label) for label in BRIGHTER]
    proba = classifier.predict_proba(rows.text, show_progress_bar=True)[:, columns]
    return prediction_table(rows, proba / proba.sum(axis=1, keepdims=True), list(BRIGHTER))


def score_package(name: str, table: Table) -> dict[str, Any]:
    "Scores of a model in the package on BRIGHTER's test rows, with its own thresholds for the five emotions."
    classifier, rows = TrainedClassifier.from_pretrained(name), table.splits["test"]
    columns = [classifier.labels.index(label) for label in BRIGHTER]
    assert classifier.thresholds is not None
    thresholds = classifier.thresholds[columns]
    predicted = prediction_table(rows, classifier.predict_proba(rows.text)[:, columns], list(BRIGHTER), thresholds)
    return next(iter(compute_metrics(predicted, list(BRIGHTER), thresholds).values()))

"""Is the shipped encoder a better start than plain MiniLM? Both on two other tables, on few rows and on many.

    python tools/feelings.py

BRIGHTER's English texts (five emotions, several or none a text) and EmpatheticDialogues' prompts (32 emotions, one a
prompt). For each seed, both encoders get the same training rows and the same recipe: LoRA, the epoch chosen on dev, and
so are temperature and thresholds. Writes results/feelings.json. What was trained is kept in runs/feelings/ and used
again; `--kept` writes the file from what is there and trains nothing.
"""

import argparse
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from experiments import ROOT, SEEDS, write_result

from emo_nb.config import Config, TrainConfig
from emo_nb.corpora import normalize_text
from emo_nb.encode import TextDataset, encode_labels
from emo_nb.engine.shipped import ADAPTER, FOLDER, MAX_LENGTH, read_hashes
from emo_nb.evaluate import compute_metrics, prediction_table
from emo_nb.io.files import atomic_file
from emo_nb.model import add_lora, find_encoder, load_tokenizer, new_classifier
from emo_nb.predict import TrainedClassifier
from emo_nb.report import utc_now
from emo_nb.run import load_examples, make_splits
from emo_nb.sources import search_places
from emo_nb.train import fit

RUNS = ROOT / "runs" / "feelings"
ENCODERS = ("minilm", "goemotions28")
EPOCHS = {64: 20, 200: 20, 1000: 6}  # at most, by training rows; of them the best on dev
EPOCHS_ON_ALL = {"brighter": 6, "empathetic": 3}
DEV_ROWS, TEST_ROWS = 500, 1000  # of BRIGHTER; as many dev rows of EmpatheticDialogues
CHOICE_ROWS = 300  # of dev, by which the epoch is chosen
SCORES = ("macro_f1", "micro_f1", "accuracy")


@dataclass(frozen=True)
class Table:
    "Labelled rows of train, dev and test."

    splits: dict[str, pd.DataFrame]
    labels: list[str]
    multi_label: bool
    files: dict[str, str]  # name -> SHA-256


def read_brighter() -> Table:
    "BRIGHTER English: its train and dev files, whose rows are split anew, because the labels of its test file are blank."
    folder = next(folder / "brighter" for _, folder in search_places() if (folder / "brighter").is_dir())
    files = [folder / f"eng_{name}.csv" for name in ("train", "dev")]
    frame = pd.concat([pd.read_csv(file) for file in files], ignore_index=True)
    frame = frame[~normalize_text(frame.text).duplicated()].sample(frac=1, random_state=SEEDS[0])
    labels = sorted(frame.columns.drop(["id", "text"]))
    targets = [tuple(label for label in labels if row[label]) for row in frame[labels].to_dict("records")]
    rows = pd.DataFrame({"text": frame.text, "targets": targets, "corpus": "brighter", "group": frame.id})
    after = TEST_ROWS + DEV_ROWS
    splits = {"train": rows[after:], "dev": rows[TEST_ROWS:after], "test": rows[:TEST_ROWS]}
    hashes = {f"brighter/{file.name}": hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    return Table(splits, labels, True, hashes)


def read_prompts() -> Table:
    "EmpatheticDialogues' prompts in their official splits, without the first turns that a run would train on as well."
    config = Config.from_preset("full", task="empathetic32")
    examples = load_examples(config)
    splits = make_splits(examples.rows, examples.task, config)
    splits = {name: rows[rows.role == "prompt"] for name, rows in splits.items()}
    splits["dev"] = splits["dev"].sample(DEV_ROWS, random_state=SEEDS[0])
    return Table(splits, sorted(examples.task.labels), False, examples.files)


def train_and_test(table: Table, train: pd.DataFrame, encoder: str, epochs: int, seed: int) -> dict[str, Any]:
    "Train on these rows from an encoder, choose on dev, and return the scores on test."
    folder = find_encoder(encoder)
    tokenizer = load_tokenizer(folder, MAX_LENGTH)
    choice = table.splits["dev"].sample(CHOICE_ROWS, random_state=seed)
    data, choice_data = (
        TextDataset(list(rows.text), tokenizer, encode_labels(rows.targets, table.labels), table.multi_label)
        for rows in (train, choice)
    )
    model = add_lora(new_classifier(folder, table.labels, encoder, seed, table.multi_label))
    with TemporaryDirectory() as checkpoints:
        settings = TrainConfig(encoder=encoder, epochs=epochs)
        history = fit(model, tokenizer, data, choice_data, Path(checkpoints), settings, seed, show_progress_bar=False)
    classifier = TrainedClassifier(model.merge_and_unload(), tokenizer)
    dev, test = table.splits["dev"], table.splits["test"]
    classifier.calibrate(dev.text, encode_labels(dev.targets, table.labels))
    predictions = prediction_table(test, classifier.predict_proba(test.text), table.labels, classifier.thresholds)
    scores = next(iter(compute_metrics(predictions, table.labels, classifier.thresholds).values()))
    best = history.set_index("epoch")["dev_average_precision" if table.multi_label else "dev_macro_f1"].idxmax()
    return {name: scores[name] for name in SCORES} | {"interval": scores["intervals"]["macro_f1"], "epoch": int(best)}


def one_result(name: str, table: Table, size: int | None, encoder: str, seed: int, may_train: bool = True) -> Any:
    "The scores of one training, kept in runs/ by the version of the shipped encoder; None where it may not be trained."
    version = read_hashes(FOLDER)[ADAPTER][:12]
    kept = RUNS / version / f"{name}-{size or 'all'}-{encoder}-{seed}.json"
    if not kept.exists() and may_train:
        rows = table.splits["train"]
        rows = rows if size is None else rows.sample(size, random_state=seed)
        epochs = EPOCHS_ON_ALL[name] if size is None else EPOCHS[size]
        with atomic_file(kept) as temporary:
            temporary.write_text(json.dumps(train_and_test(table, rows, encoder, epochs, seed)))
        print(kept.stem, kept.read_text(), flush=True)
    return json.loads(kept.read_text()) if kept.exists() else None


def compare(results: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    "The scores of both encoders, one a seed, and the differences in macro-F1 between them, seed by seed."
    macro = {encoder: np.array([one["macro_f1"] for one in of_seeds]) for encoder, of_seeds in results.items()}
    differences = macro["goemotions28"] - macro["minilm"]
    means = {encoder: round(float(scores.mean()), 4) for encoder, scores in macro.items()}
    paired = {"differences": differences.round(4).tolist(), "mean": round(float(differences.mean()), 4)}
    if len(differences) > 1:
        paired["sd"] = round(float(differences.std(ddof=1)), 4)
    return {"seeds": results, "mean": means, "paired": paired}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kept", action="store_true", help="train nothing, use what is there")
    may_train = not parser.parse_args().kept
    started, tables = utc_now(), {"brighter": read_brighter(), "empathetic": read_prompts()}
    # all prompts last, because they take longest
    jobs: list[tuple[str, int | None, int]] = [
        (name, size, seed) for seed in SEEDS for name in tables for size in EPOCHS
    ]
    jobs += [(name, None, seed) for name in tables for seed in SEEDS]
    results: dict[str, dict[str, dict[str, list[Any]]]] = {name: {} for name in tables}
    for name, size, seed in jobs:
        both = [one_result(name, tables[name], size, encoder, seed, may_train) for encoder in ENCODERS]
        if None not in both:
            of_size = results[name].setdefault(str(size or "all"), {encoder: [] for encoder in ENCODERS})
            for encoder, result in zip(ENCODERS, both, strict=True):
                of_size[encoder].append({"seed": seed, **result})
    record = {
        "recipe": {"method": "lora", "epochs": EPOCHS, "epochs_on_all": EPOCHS_ON_ALL, "choice_rows": CHOICE_ROWS},
        "adapter_sha256": read_hashes(FOLDER)[ADAPTER],
        "rows": {name: {split: len(rows) for split, rows in table.splits.items()} for name, table in tables.items()},
        "files": {name: sha256 for table in tables.values() for name, sha256 in table.files.items()},
        "tables": {
            name: {size: compare(of_size) for size, of_size in sizes.items()} for name, sizes in results.items()
        },
    }
    write_result("feelings", record, started, "python tools/feelings.py")


if __name__ == "__main__":
    main()

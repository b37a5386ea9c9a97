"""Small classifiers that learn from a larger one: a task's labels, and what all-mpnet-base-v2 says of more texts.

    python tools/distillation.py [STUDENT ...] [--step STEP] [--task TASK] [--teachers SEED ...] [--seeds SEED ...] [--result NAME]

Teachers of 109 million parameters are trained on the task's labels, one a seed, and their mean probabilities on the
training texts and on the other corpus's are saved; students of 22 million parameters learn from them. What is there in
runs/NAME/ is not made again, and results/NAME.json is of what is there and of what it held of models that are not. Dev
rows choose, test rows report. Whoever has learnt from EmpatheticDialogues' texts is bound to that corpus's licence, which
is non-commercial; the others are not.
"""

import argparse
import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from ablations import dev_scores, mean_average_precision
from experiments import RESULTS, ROOT, SEEDS, summarize_run, write_result
from mpnet import find_mpnet
from scipy.special import logit
from ship import COARSER, Logits, Splits, grouped, load_task, score

from emo_nb import SoftTargets
from emo_nb.classifier.soft_targets import LABEL_SHARE
from emo_nb.config import Config, TrainConfig
from emo_nb.core import Method
from emo_nb.corpora import load_corpus, normalize_text
from emo_nb.encode import TextDataset, encode_labels
from emo_nb.evaluate import compute_metrics, fit_temperature, log_loss, prediction_table, probabilities
from emo_nb.io.files import atomic_dir, atomic_file
from emo_nb.model import find_encoder, load_tokenizer, new_trainable_classifier, save_model
from emo_nb.predict import TrainedClassifier
from emo_nb.report import open_run, utc_now
from emo_nb.run import run_experiment
from emo_nb.taxonomy import TASKS
from emo_nb.train import fit

# Smaller steps than MiniLM's, a longer warm-up, and rates that are more alike from layer to layer
TEACHER = {"method": "finetune", "epochs": 2, "learning_rate": 1e-4, "layer_decay": 0.85, "warmup_ratio": 0.15}


@dataclass(frozen=True)
class Student:
    "How a student differs from the recipe."

    what: str
    method: Method = "finetune"
    epochs: int = 3
    more_texts: bool = False  # also learns what the teachers say of texts that have none of the task's labels


STUDENTS = {
    "taught": Student("half of each target from the teacher"),
    "taught, more texts": Student("and the other corpus's texts", epochs=2, more_texts=True),
    "LoRA, taught": Student("half of each target from the teacher", "lora"),
    "LoRA, taught, more texts": Student("and the other corpus's texts", "lora", 2, more_texts=True),
}


@dataclass(frozen=True)
class TaskRows:
    "The rows of train, dev and test of a task, its labels in the order of the outputs, and its files with their SHA-256."

    task: str
    splits: Splits
    labels: list[str]
    files: dict[str, str]

    @property
    def multi_label(self) -> bool:
        return TASKS[self.task].multi_label

    @property
    def texts(self) -> list[str]:
        "Those of train."
        return list(self.splits["train"].text)

    def targets(self, split: str) -> np.ndarray:
        "Ones and zeros, (n_rows, n_labels)."
        return encode_labels(self.splits[split].targets, self.labels)


@cache
def load_rows(task: str = "goemotions28") -> TaskRows:
    return TaskRows(task, *load_task(task))


def train_teacher(task: str, seed: int, folder: Path) -> None:
    "Train a teacher, where it is not there yet."
    if not (folder / "metrics.json").exists():
        options = {"task": task, "encoder": find_mpnet(), "seed": seed, "out": folder, **TEACHER}
        run_experiment(Config.from_preset("full", **options))


@cache
def more_texts(task: str) -> tuple[str, ...]:
    "The training texts of the corpus that the task is not about, each once: EmpatheticDialogues' utterances, or comments."
    frame = load_corpus("empathetic" if task == "goemotions28" else "goemotions").frame
    texts = frame.text[frame.split == "train"]
    return tuple(texts[~normalize_text(texts).duplicated()])


def save_targets(texts: Sequence[str], what: str, teachers: list[Path]) -> SoftTargets:
    "The mean of the teachers' probabilities for these texts; those of each are kept."
    of_each = []
    for folder in teachers:
        kept = folder.with_name(f"{what}-of-{folder.name}.npz")
        if not kept.exists():
            print(f"\n{folder.name} on {len(texts):,} {what}", flush=True)
            SoftTargets.from_teacher(TrainedClassifier.from_pretrained(folder), texts).save(kept)
        of_each.append(SoftTargets.load(kept))
    first = of_each[0]
    return replace(first, proba=np.mean([targets.of(texts, first.labels) for targets in of_each], axis=0))


def train_model(
    texts: list[str],
    targets: np.ndarray,  # (n_texts, n_labels)
    rows: TaskRows,
    settings: TrainConfig,
    seed: int = SEEDS[0],  # of the order of the rows; all models begin from one head, so that they can be averaged
    encoder: Path | None = None,  # MiniLM where it is not named
) -> tuple[Any, Any, dict[str, Any]]:
    "A model trained on these texts, its tokenizer, and its history with its speed; dev chooses the epoch."
    encoder, dev = encoder or find_encoder("minilm"), rows.splits["dev"]
    tokenizer = load_tokenizer(encoder, settings.max_length)
    model = new_trainable_classifier(encoder, rows.labels, settings, SEEDS[0], rows.multi_label)
    data = TextDataset(texts, tokenizer, targets.astype(np.float32), rows.multi_label)
    dev_data = TextDataset(list(dev.text), tokenizer, rows.targets("dev"), rows.multi_label)
    with TemporaryDirectory() as checkpoints:
        history = fit(model, tokenizer, data, dev_data, Path(checkpoints), settings, seed)
    return model, tokenizer, {**history.attrs, "epochs": history.to_dict("records")}


def train_student(name: str, seed: int, rows: TaskRows, teachers: list[Path]) -> Path:
    "The folder of a student, trained where it is not there yet: its model, its history, its logits of dev and test."
    student, folder = STUDENTS[name], model_folder(name, seed, teachers[0].parent)
    if folder.exists():
        return folder
    print(f"\n{name}, seed {seed}: {student.what}", flush=True)
    texts = rows.texts
    taught = save_targets(texts, "texts", teachers).of(texts, rows.labels)
    wanted = LABEL_SHARE * rows.targets("train") + (1 - LABEL_SHARE) * taught
    if student.more_texts:
        more = more_texts(rows.task)
        texts = [*texts, *more]
        wanted = np.concatenate([wanted, save_targets(more, "more-texts", teachers).of(more, rows.labels)])
    settings = TrainConfig("minilm", method=student.method, epochs=student.epochs)
    model, tokenizer, history = train_model(texts, wanted, rows, settings, seed)
    history["teachers"] = [folder.name for folder in teachers]
    keep_model(folder, model, tokenizer, history, rows)
    return folder


def keep_model(folder: Path, model: Any, tokenizer: Any, history: dict[str, Any], rows: TaskRows) -> None:
    "Save a trained model, its history, and its logits of dev and test, in a folder that appears complete."
    with atomic_dir(folder, "model") as place:
        save_logits(TrainedClassifier(save_model(model, tokenizer, place).cpu().eval(), tokenizer), place, rows.splits)
        (place / "history.json").write_text(json.dumps(history))


def model_folder(name: str, seed: int | str, parent: Path) -> Path:
    "Where the model of a name and a seed is kept, or that of averaged weights (`mean-of-N`)."
    plain = re.sub(r"\W+", "_", name)
    return parent / f"{plain}-{seed}"


def save_logits(classifier: TrainedClassifier, folder: Path, splits: Splits) -> None:
    "A classifier's logits of dev and test, in its folder."
    logits = {name: classifier.logits(splits[name].text) for name in ("dev", "test")}
    with atomic_file(folder / "logits.npz") as temporary, open(temporary, "wb") as stream:
        np.savez(stream, **logits)  # type: ignore[arg-type]  # numpy's stubs take every name for its option


def read_logits(folder: Path) -> Logits:
    "The logits of dev and test that a model has left."
    with np.load(folder / "logits.npz") as arrays:
        return {name: arrays[name] for name in ("dev", "test")}


def average_weights(folders: list[Path], place: Path, rows: TaskRows) -> Path:
    "The model whose weights are the mean of several that began from one head; Wortsman et al. 2022, 2203.05482."
    if not place.exists():
        models = [TrainedClassifier.from_pretrained(folder) for folder in folders]
        states = [one.model.state_dict() for one in models]
        sums = {name: sum(state[name].double() for state in states) for name in states[0]}
        means = {name: (one / len(states)).to(states[0][name].dtype) for name, one in sums.items()}
        models[0].model.load_state_dict(means)
        with atomic_dir(place, "model") as folder:
            mean = save_model(models[0].model, models[0].tokenizer, folder)
            save_logits(TrainedClassifier(mean.cpu().eval(), models[0].tokenizer), folder, rows.splits)
    return place


def settings_of_run(folder: Path) -> dict[str, Any]:
    "What a result file holds of a teacher's run, without its duration: it may have been interrupted."
    record = summarize_run(open_run(folder))
    return {key: value for key, value in record.items() if key not in ("seconds", "train_seconds")}


def summarize(what: str, folders: list[Path], rows: TaskRows) -> dict[str, Any]:
    "The scores of each seed of a row, and the histories."
    of_seeds = [split_scores(read_logits(folder), rows) for folder in folders]
    return {
        "what": what,
        **{name: [scores[name] for scores in of_seeds] for name in of_seeds[0]},
        "history": [json.loads(file.read_text()) for folder in folders if (file := folder / "history.json").exists()],
    }


def mean_logits(logits: list[Logits], multi_label: bool) -> Logits:
    "Logits whose probabilities are the mean of those of several models."
    back = logit if multi_label else np.log
    probas = {name: np.mean([probabilities(one[name], multi_label) for one in logits], axis=0) for name in logits[0]}
    return {name: back(proba.clip(1e-7, 1 - 1e-7)) for name, proba in probas.items()}


def split_scores(logits: Logits, rows: TaskRows) -> dict[str, Any]:
    """The scores on `dev`, by which models are chosen; all on `test`; and mean average precision there (`test_ranking`).

    Of GoEmotions' 28 labels also `grouped`: those of the coarser label sets, from these labels' probabilities.
    """
    truth = {name: rows.targets(name) for name in ("dev", "test")}
    temperature = fit_temperature(logits["dev"], truth["dev"], rows.multi_label)
    scaled = {name: one / temperature for name, one in logits.items()}
    if rows.multi_label:
        return {
            "dev": dev_scores(logits["dev"], truth["dev"]),
            "test": score(logits, rows.splits, rows.labels)["test"],
            "test_ranking": mean_average_precision(truth["test"], logits["test"]),
            "grouped": group_scores(scaled),
        }
    scores = {}
    for name in truth:
        proba = probabilities(scaled[name], False)
        metrics = compute_metrics(prediction_table(rows.splits[name], proba, rows.labels), rows.labels)["empathetic"]
        scores[name] = metrics | {
            "average_precision": mean_average_precision(truth[name], proba),
            "log_loss": round(log_loss(scaled[name], truth[name], False), 4),
        }
    dev = {name: scores["dev"][name] for name in ("accuracy", "macro_f1", "average_precision", "log_loss")}
    return {"dev": dev, "test": scores["test"], "test_ranking": scores["test"]["average_precision"]}


def group_scores(logits: Logits) -> dict[str, dict[str, Any]]:
    "Of each coarser label set, the scores on `dev` and `test` of the 28 labels' probabilities, joined by noisy-or."
    of_task = {}
    for task in COARSER:
        rows, labels28 = load_rows(task), sorted(TASKS["goemotions28"].labels)
        coarse = score(grouped(logits, labels28, rows.labels, task, "noisy-or"), rows.splits, rows.labels)
        test = {name: coarse["test"][name] for name in ("macro_f1", "intervals")}
        of_task[task] = {"dev": coarse["dev_choice"], "test": test}
    return of_task


def summarize_ways(what: dict[str, str], parent: Path, rows: TaskRows, before: dict[str, Any]) -> dict[str, Any]:
    """For each name of a way, `summarize` of its seeds, and of the mean of their weights where there are several.

    A seed whose model is not here keeps the scores that it has in `before`, the ways of the file in results/. There is
    no new mean of weights then.
    """
    table = {}
    for name, of_name in what.items():
        folders = {seed: folder for seed in SEEDS if (folder := model_folder(name, seed, parent)).exists()}
        earlier, averaged = by_seed(before.get(name)), f"{name}, weights averaged"
        here = by_seed({"seeds": [*folders], **summarize(of_name, [*folders.values()], rows)} if folders else None)
        if of_seeds := dict(sorted((earlier | here).items())):
            table[name] = {"what": of_name, "seeds": [*of_seeds], **pd.DataFrame([*of_seeds.values()]).to_dict("list")}
        if len(folders) > 1 and earlier.keys() <= here.keys():
            mean = average_weights([*folders.values()], model_folder(name, f"mean-of-{len(folders)}", parent), rows)
            table[averaged] = summarize("the mean of the seeds' weights", [mean], rows)
        elif averaged in before and here.keys() <= earlier.keys():
            table[averaged] = before[averaged]
    return table


def by_seed(row: dict[str, Any] | None) -> dict[int, dict[str, Any]]:
    "What a row has of each of its seeds; one that does not name them has the first ones."
    if row is None:
        return {}
    seeds = row.get("seeds", SEEDS[: len(row["dev"])])
    return {seed: {key: row[key][i] for key in row if key not in ("what", "seeds")} for i, seed in enumerate(seeds)}


def read_result(name: str) -> dict[str, Any]:
    "The file of that name in results/, or nothing."
    file = RESULTS / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else {}


def write(rows: TaskRows, teachers: list[Path], command: str) -> None:
    "The file in results/ of the teachers and the students that are there."
    started, parent, students = utc_now(), teachers[0].parent, {name: one.what for name, one in STUDENTS.items()}
    for folder in teachers:
        if not (folder / "logits.npz").exists():
            save_logits(TrainedClassifier.from_pretrained(folder), folder, rows.splits)
    together = split_scores(mean_logits([read_logits(folder) for folder in teachers], rows.multi_label), rows)
    record = {
        "settings": {folder.name: settings_of_run(folder) for folder in teachers},
        "teachers": summarize("109 million parameters", teachers, rows)
        | {f"{name}_together": scores for name, scores in together.items()},
        "students": summarize_ways(students, parent, rows, read_result(parent.name).get("students", {})),
        "files": rows.files,
    }
    write_result(parent.name, record, started, command)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("students", nargs="*", metavar="STUDENT", help=f"one of: {'; '.join(STUDENTS)}. Default: all")
    parser.add_argument("--step", choices=("teachers", "targets", "students", "write"), help="that alone")
    parser.add_argument("--task", choices=("goemotions28", "empathetic32"), default="goemotions28")
    parser.add_argument("--teachers", type=int, nargs="+", default=SEEDS, metavar="SEED")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, metavar="SEED", help="of the students")
    parser.add_argument("--result", default="distillation", metavar="NAME", help="of the file in results/")
    options = parser.parse_args()
    step, rows, names = options.step, load_rows(options.task), options.students or list(STUDENTS)
    teachers = [ROOT / "runs" / options.result / f"teacher-{seed}" for seed in options.teachers]
    if step in (None, "teachers"):
        for seed, folder in zip(options.teachers, teachers, strict=True):
            train_teacher(rows.task, seed, folder)
    if step in (None, "targets"):
        save_targets(rows.texts, "texts", teachers)
        if any(STUDENTS[name].more_texts for name in names):
            save_targets(more_texts(rows.task), "more-texts", teachers)
    if step in (None, "students"):
        for name, seed in product(names, options.seeds):
            train_student(name, seed, rows, teachers)
    if step in (None, "write"):
        given = [*options.students, "--task", rows.task, "--result", options.result]
        given += ["--teachers", *map(str, options.teachers), "--seeds", *map(str, options.seeds)]
        write(rows, teachers, shlex.join(["python", "tools/distillation.py", *given]))


if __name__ == "__main__":
    main()

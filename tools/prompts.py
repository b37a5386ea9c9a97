"""A small classifier of EmpatheticDialogues' 32 emotions that learns from a larger one, with and without more texts.

    python tools/prompts.py [STEP]      teacher, students or write; all of them where none is named

The teacher has 109 million parameters (all-mpnet-base-v2, every layer trained). What it says of the rows that a run trains
on, and of GoEmotions' training comments, which have none of these labels, is saved; students of 22 million parameters learn
from it. What is there in runs/prompts/ is not made again. Dev rows choose, test rows report. Teacher and students are bound
to EmpatheticDialogues' licence, which is non-commercial.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from distillation import TEACHER, average_weights, keep_model, read_logits, settings_of_run, student_folder, train_model
from experiments import ROOT, SEEDS, write_result
from mpnet import find_mpnet
from ship import Logits, Splits, load_task

from emo_nb import SoftTargets
from emo_nb.classifier.soft_targets import LABEL_SHARE
from emo_nb.config import Config, TrainConfig
from emo_nb.encode import encode_labels
from emo_nb.evaluate import compute_metrics, fit_temperature, log_loss, prediction_table, probabilities
from emo_nb.predict import TrainedClassifier
from emo_nb.report import utc_now
from emo_nb.run import run_experiment

TASK, FOLDER = "empathetic32", ROOT / "runs" / "prompts"
TEACHER_FOLDER = FOLDER / "teacher"


@dataclass(frozen=True)
class Student:
    "How a student differs from the recipe."

    what: str
    method: str = "finetune"
    epochs: int = 3
    taught: bool = True  # half of the target of a row is the teacher's
    comments: bool = False  # also learns what the teacher says of GoEmotions' training comments


STUDENTS = {
    "three epochs": Student("labels alone", taught=False),
    "taught": Student("half of each target from the teacher"),
    "taught, more texts": Student("and GoEmotions' comments", epochs=2, comments=True),
    "LoRA, taught": Student("half of each target from the teacher", "lora"),
}


def train_teacher() -> None:
    "The teacher, trained where it is not there yet, and its logits of dev and test."
    if not (TEACHER_FOLDER / "metrics.json").exists():
        options = {"task": TASK, "encoder": find_mpnet(), "seed": SEEDS[0], "out": TEACHER_FOLDER, **TEACHER}
        run_experiment(Config.from_preset("full", **options))


def teacher_targets(texts: list[str], what: str) -> SoftTargets:
    "The teacher's probabilities for these texts, which are kept."
    kept = FOLDER / f"{what}.npz"
    if not kept.exists():
        print(f"\nthe teacher on {len(texts):,} {what}", flush=True)
        SoftTargets.from_teacher(TrainedClassifier.from_pretrained(TEACHER_FOLDER), texts).save(kept)
    return SoftTargets.load(kept)


def train_student(name: str, seed: int, splits: Splits, labels: list[str]) -> Path:
    "The folder of a student, trained where it is not there yet."
    student, folder = STUDENTS[name], student_folder(name, seed, FOLDER)
    if folder.exists():
        return folder
    print(f"\n{name}, seed {seed}: {student.what}", flush=True)
    texts = list(splits["train"].text)
    targets = encode_labels(splits["train"].targets, labels).astype(np.float32)
    if student.taught:
        targets = LABEL_SHARE * targets + (1 - LABEL_SHARE) * teacher_targets(texts, "rows").of(texts, labels)
    if student.comments:
        comments = list(load_task("goemotions28")[0]["train"].text)
        texts = [*texts, *comments]
        targets = np.concatenate([targets, teacher_targets(comments, "comments").of(comments, labels)])
    settings = TrainConfig("minilm", student.method, student.epochs)
    model, tokenizer, history = train_model(texts, targets, splits, labels, settings, seed, multi_label=False)
    keep_model(folder, model, tokenizer, history, splits)
    return folder


def score(logits: Logits, splits: Splits, labels: list[str]) -> dict[str, dict[str, Any]]:
    "Accuracy, macro-F1 and log-loss on dev and on test, at the temperature that dev chooses."
    truth = {name: encode_labels(splits[name].targets, labels) for name in ("dev", "test")}
    temperature, scores = fit_temperature(logits["dev"], truth["dev"], False), {}
    for name, of_split in truth.items():
        scaled = logits[name] / temperature
        table = prediction_table(splits[name], probabilities(scaled, False), labels)
        metrics = compute_metrics(table, labels)["empathetic"]
        scores[name] = {key: metrics[key] for key in ("accuracy", "macro_f1", "top3", "intervals")}
        scores[name]["log_loss"] = round(log_loss(scaled, of_split, False), 4)
    return scores


def write() -> None:
    "results/prompts.json from what is there."
    started = utc_now()
    splits, labels, files = load_task(TASK)
    rows: dict[str, Any] = {}
    for name, student in STUDENTS.items():
        folders = [folder for seed in SEEDS if (folder := student_folder(name, seed, FOLDER)).exists()]
        if folders:
            rows[name] = {"what": student.what, "seeds": [score(read_logits(one), splits, labels) for one in folders]}
        if len(folders) > 1:
            mean = average_weights(folders, student_folder(name, 0, FOLDER), splits)
            scores = [score(read_logits(mean), splits, labels)]
            rows[f"{name}, weights averaged"] = {"what": "the mean of their weights", "seeds": scores}
    teacher = TrainedClassifier.from_pretrained(TEACHER_FOLDER)
    of_teacher = {name: teacher.logits(splits[name].text) for name in ("dev", "test")}
    record = {
        "rows": {name: len(of_split) for name, of_split in splits.items()},
        "settings": settings_of_run(TEACHER_FOLDER),
        "teacher": score(of_teacher, splits, labels),
        "students": rows,
        "files": files,
    }
    write_result("prompts", record, started, "python tools/prompts.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", nargs="?", choices=("teacher", "students", "write"))
    parser.add_argument("names", nargs="*", metavar="NAME", help="of students; default: all")
    given = parser.parse_args()
    if given.step in (None, "teacher"):
        train_teacher()
    if given.step in (None, "students"):
        splits, labels, _ = load_task(TASK)
        for seed in SEEDS:
            for name in given.names or STUDENTS:
                train_student(name, seed, splits, labels)
    if given.step in (None, "write"):
        write()


if __name__ == "__main__":
    main()

"""A quick classifier of GoEmotions' 28 labels: three of the encoder's six layers, taught by the model in the package.

    python tools/fast.py [NAME ...]      train these students (all where none is named), then write results/fast.json

A student's targets are half the labels and half what the model in the package says. Some students also learn what it
says of altered comments: parts of comments, and parts of two of them joined. Students are kept in runs/fast/, and what
is there is not trained again. Dev rows choose, test rows report; speeds are ratios of one run, the ways in turn.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from distillation import read_logits, save_logits
from experiments import ROOT, write_result
from safetensors.numpy import load_file, save_file
from ship import Splits, load_task, score

from emo_nb import SoftTargets
from emo_nb.config import TrainConfig
from emo_nb.encode import TextDataset, encode_labels
from emo_nb.io.files import atomic_dir
from emo_nb.model import find_encoder, load_tokenizer, new_trainable_classifier, save_model
from emo_nb.predict import TrainedClassifier
from emo_nb.report import utc_now
from emo_nb.train import fit

FOLDER = ROOT / "runs" / "fast"
TEACHER = "goemotions28"
SEED = 42
ROUNDS, TEXTS = 5, 5427  # of the measurement of speed


@dataclass(frozen=True)
class Student:
    "How a student is made."

    layers: tuple[int, ...]  # of the encoder's six that it keeps, counted from 0
    method: str = "finetune"
    epochs: int = 3
    rank: int = 16  # of LoRA
    altered: int = 0  # altered comments for each comment


STUDENTS = {
    "layers 1, 3, 5": Student((1, 3, 5)),
    "layers 0, 2, 4": Student((0, 2, 4)),
    "layers 0, 2, 5": Student((0, 2, 5)),
    "layers 0, 1, 2": Student((0, 1, 2)),
    "layers 0, 2, 5, LoRA": Student((0, 2, 5), "lora", rank=64),
    "layers 1, 3, 5, LoRA": Student((1, 3, 5), "lora", rank=64),
    "layers 0, 2, 5, altered": Student((0, 2, 5), altered=1),
    "layers 0, 2, 5, LoRA, altered": Student((0, 2, 5), "lora", rank=64, altered=1),
}


def shortened_encoder(layers: tuple[int, ...]) -> Path:
    "The folder of the bundled encoder with these of its layers alone."
    place = FOLDER / f"encoder-{''.join(map(str, layers))}"
    if place.exists():
        return place
    with atomic_dir(place, "config.json") as folder:
        copytree(find_encoder("minilm"), folder, dirs_exist_ok=True)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": len(layers)}))
        weights, numbers = {}, {str(layer): str(number) for number, layer in enumerate(layers)}
        for name, weight in load_file(folder / "model.safetensors").items():
            parts = name.split(".")
            if parts[:2] == ["encoder", "layer"]:
                if parts[2] not in numbers:
                    continue
                parts[2] = numbers[parts[2]]
            weights[".".join(parts)] = weight
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return place


def alter(texts: list[str], seed: int) -> list[str]:
    "For each text, a part of it of at least half of its words, followed by a part of another for every second one."
    rng = np.random.default_rng(seed)

    def part(text: str) -> str:
        words = text.split()
        length = rng.integers((len(words) + 1) // 2, len(words) + 1)
        begin = rng.integers(0, len(words) - length + 1)
        return " ".join(words[begin : begin + length])

    others = rng.permutation(len(texts))
    return [
        f"{part(text)} {part(texts[other])}" if i % 2 else part(text)
        for i, (text, other) in enumerate(zip(texts, others, strict=True))
    ]


def targets_of(texts: list[str], what: str) -> SoftTargets:
    "What the model in the package says of these texts; kept in runs/."
    kept = FOLDER / f"{what}.npz"
    if not kept.exists():
        SoftTargets.from_teacher(TrainedClassifier.from_pretrained(TEACHER), texts).save(kept)
    return SoftTargets.load(kept)


def training_data(student: Student, splits: Splits, labels: list[str]) -> tuple[list[str], np.ndarray]:
    "The texts that a student learns from and their targets (n_texts, n_labels)."
    texts = list(splits["train"].text)
    targets = encode_labels(splits["train"].targets, labels) / 2 + targets_of(texts, "comments").of(texts, labels) / 2
    for number in range(student.altered):
        altered = alter(texts[: len(splits["train"])], SEED + number)
        texts = [*texts, *altered]
        targets = np.concatenate([targets, targets_of(altered, f"altered-{number}").of(altered, labels)])
    return texts, targets.astype(np.float32)


def train_student(name: str, splits: Splits, labels: list[str]) -> Path:
    "The folder of a student, trained where it is not there yet: its model, its history, its logits of dev and test."
    student, folder = STUDENTS[name], FOLDER / name.replace(",", "").replace(" ", "_")
    if folder.exists():
        return folder
    print(f"\n{name}: {student}", flush=True)
    encoder, dev = shortened_encoder(student.layers), splits["dev"]
    settings = TrainConfig("minilm", method=student.method, epochs=student.epochs, lora_rank=student.rank)
    texts, targets = training_data(student, splits, labels)
    tokenizer = load_tokenizer(encoder, settings.max_length)
    model = new_trainable_classifier(encoder, labels, settings, SEED, multi_label=True)
    data = TextDataset(texts, tokenizer, targets, multi_label=True)
    dev_data = TextDataset(list(dev.text), tokenizer, encode_labels(dev.targets, labels), multi_label=True)
    with atomic_dir(folder, "model") as place:
        history = fit(model, tokenizer, data, dev_data, place / "checkpoints", settings, SEED)
        save_logits(TrainedClassifier(save_model(model, tokenizer, place).cpu().eval(), tokenizer), place, splits)
        kept = {**history.attrs, "epochs": history.to_dict("records")}
        (place / "history.json").write_text(json.dumps(kept))
    return folder


def compare_speed(folder: Path, texts: list[str]) -> dict[str, Any]:
    "Texts a second of the model in the package and of a student, in bulk and one by one; medians, and their ratios."
    models = {
        "teacher": TrainedClassifier.from_pretrained(TEACHER),
        "student": TrainedClassifier.from_pretrained(folder),
    }
    found: dict[str, dict[str, list[float]]] = {"bulk": {}, "one by one": {}}
    for turn in range(ROUNDS + 1):
        for name, model in models.items():
            start = perf_counter()
            model.for_bulk().predict_proba(texts)
            middle = perf_counter()
            for text in texts[:200]:
                model.predict_proba(text)
            if turn:  # the first round warms up
                found["bulk"].setdefault(name, []).append(len(texts) / (middle - start))
                found["one by one"].setdefault(name, []).append(200 / (perf_counter() - middle))
    medians = {way: {name: median(values) for name, values in of.items()} for way, of in found.items()}
    return {way: {**of, "times": of["student"] / of["teacher"]} for way, of in medians.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{'; '.join(STUDENTS)}")
    names = parser.parse_args().names
    started = utc_now()
    splits, labels, files = load_task()
    folders = {name: train_student(name, splits, labels) for name in names or STUDENTS}
    students = {}
    for name, folder in folders.items():
        scores = score(read_logits(folder), splits, labels)
        history = json.loads((folder / "history.json").read_text())
        speed = compare_speed(folder, list(splits["test"].text)[:TEXTS])
        students[name] = {**vars(STUDENTS[name]), **scores, "speed": speed, "history": history}
        print(name, scores["dev_choice"], speed, flush=True)
    write_result("fast", {"seed": SEED, "students": students, "files": files}, started, "python tools/fast.py")


if __name__ == "__main__":
    main()

"""A quick classifier of GoEmotions' 28 labels: three of the encoder's six layers, taught by the model in the package.

    python tools/fast.py [NAME ...]      train these students (all where none is named), then write results/fast.json
    python tools/fast.py --ship NAME     and write that student into emo_nb/shipped/goemotions28-fast/

A student's targets are half the labels and half what the model in the package says. Students are kept in runs/fast/, and
what is there is not trained again. Dev rows choose, test rows report; speeds are ratios of one run, the ways in turn.
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
import torch
from distillation import read_logits, save_logits
from experiments import ROOT, write_result
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_tensors
from safetensors.torch import save_file as save_tensors
from ship import Splits, adapter_tensors, load_task, make_card, score, write_shipped

from emo_nb import SoftTargets
from emo_nb.config import TrainConfig
from emo_nb.core import Method
from emo_nb.encode import TextDataset, encode_labels
from emo_nb.engine.shipped import FAST, FAST_FOLDER, MAX_LENGTH, keep_layers, read_shipped, shipped_checkpoint
from emo_nb.io.files import atomic_dir
from emo_nb.model import find_encoder, load_tokenizer, new_trainable_classifier, save_model
from emo_nb.predict import TextScorer, TrainedClassifier
from emo_nb.report import utc_now
from emo_nb.train import fit

FOLDER = ROOT / "runs" / "fast"
TEACHER = "goemotions28"
TRAINED = "trained.safetensors"  # LoRA and output layer of a student, before they are merged
SEED = 42
ROUNDS, TEXTS = 5, 5427  # of the measurement of speed


@dataclass(frozen=True)
class Student:
    "How a student is made."

    layers: tuple[int, ...]  # of the encoder's layers, those that it keeps, counted from 0
    encoder: str = "minilm"  # six layers; or the model in the package, with its seventh and its output layer
    method: Method = "finetune"
    rank: int = 16  # of LoRA


LOADING = """    from emo_nb import EmotionClassifier
    EmotionClassifier.from_pretrained("goemotions28-fast").predict_frame(["Thank you so much, you saved my week"])

It is an adapter on four of the seven layers of the package's `goemotions28`, from which it learnt: half of a training
target is the label, half is what that model says. `emo_nb.engine.shipped` puts it together; `save_pretrained` of the
classifier writes a plain transformers checkpoint."""
STUDENTS = {
    "layers 0, 2, 5": Student((0, 2, 5)),
    "layers 0, 2, 5, LoRA": Student((0, 2, 5), method="lora", rank=64),
    "the model's layers 0, 2, 5, LoRA": Student((0, 2, 5, 6), TEACHER, "lora", rank=64),
}


def shortened_encoder(encoder: str, layers: tuple[int, ...]) -> Path:
    "The folder of an encoder with these of its layers alone."
    place = FOLDER / f"{encoder}-{''.join(map(str, layers))}"
    if place.exists():
        return place
    with atomic_dir(place, "config.json") as folder:
        copytree(find_encoder(encoder), folder, dirs_exist_ok=True)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": len(layers)}))
        weights = keep_layers(load_file(folder / "model.safetensors"), layers)
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return place


def training_targets(splits: Splits, labels: list[str]) -> np.ndarray:
    "(n_train, n_labels): half the labels, half what the model in the package says, which is kept in runs/."
    kept, texts = FOLDER / "comments.npz", list(splits["train"].text)
    if not kept.exists():
        SoftTargets.from_teacher(TrainedClassifier.from_pretrained(TEACHER), texts).save(kept)
    targets = encode_labels(splits["train"].targets, labels) + SoftTargets.load(kept).of(texts, labels)
    return (targets / 2).astype(np.float32)


def student_folder(name: str) -> Path:
    "Where a student is kept."
    return FOLDER / name.replace(",", "").replace("'", "").replace(" ", "_")


def copy_head(model: Any, labels: list[str]) -> None:
    "Let the output layer of a student start as that of the model in the package, its temperature undone."
    settings, tensors = read_shipped()
    assert settings["tasks"][TEACHER]["labels"] == labels
    for name, parameter in model.named_parameters():
        if "classifier" in name:
            parameter.data.copy_(torch.from_numpy(tensors[f"{TEACHER}.{name.rsplit('.', 1)[-1]}"]))


def train_student(name: str, splits: Splits, labels: list[str]) -> Path:
    "The folder of a student, trained where it is not there yet: its model, its history, its logits of dev and test."
    student, folder = STUDENTS[name], student_folder(name)
    if folder.exists():
        return folder
    print(f"\n{name}: {student}", flush=True)
    encoder, dev = shortened_encoder(student.encoder, student.layers), splits["dev"]
    settings = TrainConfig(student.encoder, method=student.method, lora_rank=student.rank)
    tokenizer = load_tokenizer(encoder, settings.max_length)
    model = new_trainable_classifier(encoder, labels, settings, SEED, multi_label=True)
    if student.encoder == TEACHER:
        copy_head(model, labels)
    targets = training_targets(splits, labels)
    data = TextDataset(list(splits["train"].text), tokenizer, targets, multi_label=True)
    dev_data = TextDataset(list(dev.text), tokenizer, encode_labels(dev.targets, labels), multi_label=True)
    with atomic_dir(folder, "model") as place:
        history = fit(model, tokenizer, data, dev_data, place / "checkpoints", settings, SEED)
        if student.method == "lora":
            save_tensors(adapter_tensors(model), place / TRAINED, {"format": "pt"})
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
    rates: dict[str, dict[str, list[float]]] = {"bulk": {}, "one by one": {}}
    for turn in range(ROUNDS + 1):
        for name, model in models.items():
            start = perf_counter()
            model.for_bulk().predict_proba(texts)
            middle = perf_counter()
            for text in texts[:200]:
                model.predict_proba(text)
            if turn:  # the first round warms up
                rates["bulk"].setdefault(name, []).append(len(texts) / (middle - start))
                rates["one by one"].setdefault(name, []).append(200 / (perf_counter() - middle))
    medians = {way: {name: median(values) for name, values in of.items()} for way, of in rates.items()}
    return {way: {**of, "times": of["student"] / of["teacher"]} for way, of in medians.items()}


def ship(name: str, splits: Splits, labels: list[str], files: dict[str, str]) -> dict[str, Any]:
    """Write a student as the quick model of the package, rounded to float16; its scores and its bytes.

    Temperature and thresholds are fitted on dev after the rounding, so that what is scored is what is shipped.
    """
    student, folder = STUDENTS[name], student_folder(name)
    settings: dict[str, Any] = {"rank": student.rank, "layers": student.layers}
    tensors = {
        tensor_name.replace("classifier", FAST): tensor.half()
        for tensor_name, tensor in load_tensors(folder / TRAINED).items()
    }
    write_shipped(FAST_FOLDER, tensors, {FAST: {"labels": labels, "temperature": 1.0, "thresholds": {}}}, **settings)
    encoder = find_encoder("minilm")
    scorer = TextScorer(shipped_checkpoint(FAST, encoder), load_tokenizer(encoder, MAX_LENGTH), dtype="float32")
    scores = score({part: scorer.logits(splits[part].text) for part in ("dev", "test")}, splits, labels)
    write_shipped(FAST_FOLDER, tensors, {FAST: scores["settings"]}, **settings)
    kept = {FAST: {part: scores[part] for part in ("dev", "test")}}
    (FAST_FOLDER / "scores.json").write_text(json.dumps(kept, indent=1) + "\n")
    record = {"seed": SEED, "rows": {part: len(rows) for part, rows in splits.items()}, "files": files}
    card = make_card(FAST, record, labels, scores, LOADING, f'python tools/fast.py --ship "{name}"')
    (FAST_FOLDER / "README.md").write_text(card, encoding="utf-8", newline="\n")
    return {
        "student": name,
        "bytes": {file.name: file.stat().st_size for file in sorted(FAST_FOLDER.iterdir())},
        **scores,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{'; '.join(STUDENTS)}")
    parser.add_argument(
        "--ship", metavar="NAME", help="write this student, trained with LoRA, as the package's quick model"
    )
    args = parser.parse_args()
    started = utc_now()
    splits, labels, files = load_task()
    folders = {name: train_student(name, splits, labels) for name in args.names or STUDENTS}
    students = {}
    for name, folder in folders.items():
        scores = score(read_logits(folder), splits, labels)
        history = json.loads((folder / "history.json").read_text())
        speed = compare_speed(folder, list(splits["test"].text)[:TEXTS])
        students[name] = {**vars(STUDENTS[name]), **scores, "speed": speed, "history": history}
        print(name, scores["dev_choice"], speed, flush=True)
    record = {"seed": SEED, "students": students, "files": files}
    if args.ship:
        record["shipped"] = ship(args.ship, splits, labels, files)
    write_result("fast", record, started, "python tools/fast.py")


if __name__ == "__main__":
    main()

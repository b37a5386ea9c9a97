"""Train the model that comes with the package, and write emo_nb/shipped/goemotions28/ and results/shipped.json.

    python tools/ship.py

GoEmotions alone, its official splits, LoRA on the bundled encoder. The adapter and the output layers are rounded to
float16 first, then the temperature and the thresholds are fitted on dev, so what is scored is what is shipped. Dev
chooses everything, test reports. What was trained is kept in runs/shipped/ and used again; `--anew` trains again.
"""

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from ablations import dev_scores
from experiments import ROOT, write_result
from safetensors import safe_open
from safetensors.torch import save, save_file
from scipy.special import expit, logit
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from emo_nb.config import Config
from emo_nb.encode import TextDataset, encode_labels
from emo_nb.engine.checkpoints import Checkpoint
from emo_nb.engine.shipped import (
    ADAPTER,
    FOLDER,
    MAX_LENGTH,
    SETTINGS,
    base_weights,
    classifier_config,
    merge_lora,
    write_hashes,
)
from emo_nb.evaluate import choose_thresholds, compute_metrics, fit_temperature, prediction_table
from emo_nb.io.files import atomic_file
from emo_nb.model import MINILM, add_lora, count_parameters, find_encoder, load_tokenizer, new_classifier
from emo_nb.predict import TextScorer
from emo_nb.report import model_card, provenance, utc_now
from emo_nb.run import load_examples, make_splits
from emo_nb.study.results import format_interval, load_result
from emo_nb.taxonomy import TASKS
from emo_nb.train import fit

RUNS = ROOT / "runs" / "shipped"
SEED = 42
RANK = 16
COARSER = ("ekman7", "sentiment4")  # the label sets that have an output layer of their own
START_ROWS = 10_000  # on which the two starts are compared
PENALTIES = (0.0, 1e-6, 1e-5, 1e-4, 1e-3)  # on the squared weights of an output layer, of which dev chooses
Splits = dict[str, pd.DataFrame]
Logits = dict[str, np.ndarray]  # of train, dev and test, or some of them: (n_rows, n_labels)


def make_config(task: str = "goemotions28") -> Config:
    "All rows of GoEmotions' official splits, the LoRA recipe, three epochs."
    return Config.from_preset("full", task=task, encoder="minilm", method="lora", epochs=3, seed=SEED)


def new_model(labels: list[str], copied_start: bool = True) -> Any:
    "The recipe's model, not yet trained; the added layer has its keys from the layer below, or from random numbers."
    encoder = find_encoder("minilm")
    model = new_classifier(encoder, labels, "minilm", SEED, multi_label=True)
    if copied_start:
        weights = {name: torch.from_numpy(weight) for name, weight in base_weights(encoder).items()}
        unknown = model.load_state_dict(weights, strict=False)
        assert not unknown.unexpected_keys and all("classifier" in name for name in unknown.missing_keys)
    torch.manual_seed(SEED)  # for A of LoRA, which is random, and the same whatever was drawn before
    return add_lora(model, RANK)


def data_set(rows: pd.DataFrame, labels: list[str], tokenizer: Any) -> TextDataset:
    "Tokenised rows with their labels."
    return TextDataset(list(rows.text), tokenizer, encode_labels(rows.targets, labels), multi_label=True)


def train(splits: Splits, labels: list[str], folder: Path, config: Config, copied_start: bool = True) -> Any:
    "A trained model, with LoRA, and its history."
    tokenizer = load_tokenizer(find_encoder("minilm"), MAX_LENGTH)
    model = new_model(labels, copied_start)
    train_rows, dev_rows = (data_set(splits[name], labels, tokenizer) for name in ("train", "dev"))
    history = fit(model, tokenizer, train_rows, dev_rows, folder, config.train, SEED)
    return model, {**history.attrs, "epochs": history.to_dict("records")}


def load_task(task: str = "goemotions28") -> tuple[Splits, list[str], dict[str, str]]:
    "The rows of train, dev and test of a task, its labels in the order of the outputs, and the files with their SHA-256."
    config = make_config(task)
    examples = load_examples(config)
    return make_splits(examples.rows, examples.task, config), sorted(examples.task.labels), examples.files


def compare_starts(splits: Splits, labels: list[str]) -> dict[str, Any]:
    "Dev scores after one epoch of `START_ROWS` rows from either start of the added layer; kept in runs/."
    kept = RUNS / "starts.json"
    if not kept.exists():
        part = splits | {"train": splits["train"].sample(START_ROWS, random_state=SEED)}
        config = make_config()
        config = replace(config, train=replace(config.train, epochs=1))
        scores = {}
        for name, copied_start in (("copied", True), ("random", False)):
            with TemporaryDirectory() as folder:
                scores[name] = train(part, labels, Path(folder), config, copied_start)[1]["epochs"][-1]
        with atomic_file(kept) as temporary:
            temporary.write_text(json.dumps(scores))
    return {"train_rows": START_ROWS, **json.loads(kept.read_text())}


def trained_weights(splits: Splits, labels: list[str]) -> tuple[dict[str, torch.Tensor], Any]:
    "What was trained, in float32, by the names that the shipped file has, and the training's history; kept in runs/."
    kept = RUNS / "trained.safetensors"
    if not kept.exists():
        started = utc_now()
        model, history = train(splits, labels, RUNS / "checkpoints", make_config())
        history |= {"parameters": count_parameters(model), **provenance(started)}
        with atomic_file(kept) as temporary:
            save_file(adapter_tensors(model), temporary, metadata={"history": json.dumps(history)})
    with safe_open(kept, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["history"])  # noqa: SIM118


def adapter_tensors(model: Any) -> dict[str, torch.Tensor]:
    "The trained tensors of a model with LoRA: `MODULE.lora_A`, `MODULE.lora_B`, `classifier.weight` and `.bias`."
    tensors = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            plain = name.removeprefix("base_model.model.").replace(".modules_to_save.default", "")
            tensors[plain.replace(".default.weight", "")] = parameter.detach().float().contiguous()
    return tensors


def rounded(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    "The tensors in float16, the output layer's by the name of its task."
    return {name.replace("classifier", "goemotions28"): tensor.half() for name, tensor in tensors.items()}


def pooled_features(adapter: dict[str, np.ndarray], rows: pd.DataFrame, dtype: str | None) -> dict[str, np.ndarray]:
    "What the output layers read of each text, (384,): the logits of a classifier whose output layer is the identity."
    encoder = find_encoder("minilm")
    weights = merge_lora(base_weights(encoder), adapter, 2.0)
    width = len(weights["bert.pooler.dense.bias"])
    weights |= {"classifier.weight": np.eye(width, dtype=np.float32), "classifier.bias": np.zeros(width, np.float32)}
    names = [f"feature {i}" for i in range(width)]
    config = classifier_config("features", {"labels": names, "temperature": 1.0, "thresholds": {}}, encoder)
    checkpoint = Checkpoint(config, {name: torch.from_numpy(weight) for name, weight in weights.items()})
    scorer = TextScorer(checkpoint, load_tokenizer(encoder, MAX_LENGTH), dtype=dtype)
    unique = list(rows.text.unique())
    return dict(zip(unique, scorer.logits(unique, show_progress_bar=True), strict=True))


def all_features(adapter: dict[str, np.ndarray], splits: Splits) -> dict[str, np.ndarray]:
    "The features of every text: exact for dev and test, in the fastest number format for train; kept in runs/."
    kept = RUNS / "features.parquet"
    if not kept.exists():
        features = pooled_features(adapter, splits["train"], None)
        for name in ("dev", "test"):
            features |= pooled_features(adapter, splits[name], "float32")
        table = pd.DataFrame(
            np.stack(list(features.values())).astype(np.float32), features, columns=map(str, range(384))
        )
        with atomic_file(kept) as temporary:
            table.to_parquet(temporary)
    table = pd.read_parquet(kept)
    return dict(zip(table.index, table.to_numpy(), strict=True))


def fit_head(features: np.ndarray, truth: np.ndarray, penalty: float) -> tuple[torch.Tensor, torch.Tensor]:
    "Weight and bias, in float16, of a logistic regression for each label: features (n, 384), truth (n, n_labels)."
    x, y = (torch.from_numpy(array.astype(np.float32)) for array in (features, truth))
    weight = torch.zeros(y.shape[1], x.shape[1], requires_grad=True)
    bias = torch.logit(y.mean(0)).requires_grad_()
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=500, history_size=20, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = cross_entropy(x @ weight.T + bias, y) + penalty * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return weight.detach().half(), bias.detach().half()


def head_logits(head: tuple[torch.Tensor, torch.Tensor], features: dict[str, np.ndarray], rows: pd.DataFrame) -> Any:
    "The logits (n_rows, n_labels) of an output layer on the features of these rows."
    weight, bias = (tensor.double().numpy() for tensor in head)
    return np.stack([features[text] for text in rows.text]) @ weight.T + bias


def best_head(
    features: dict[str, np.ndarray], splits: Splits, labels: list[str], targets: np.ndarray
) -> tuple[Any, dict[str, Any]]:
    """The output layer, fitted to targets (n_train, n_labels) from 0 to 1, whose penalty scores best on dev.

    Returns it, and its scores with its settings (`score`).
    """
    truth = encode_labels(splits["dev"].targets, labels)
    read = np.stack([features[text] for text in splits["train"].text])
    heads = {penalty: fit_head(read, targets, penalty) for penalty in PENALTIES}
    dev = {penalty: head_logits(head, features, splits["dev"]) for penalty, head in heads.items()}
    best = max(dev, key=lambda penalty: dev_scores(dev[penalty], truth)["average_precision"])
    logits = {"dev": dev[best], "test": head_logits(heads[best], features, splits["test"])}
    return heads[best], score(logits, splits, labels) | {"penalty": best}


def grouped(logits: Logits, labels28: list[str], labels: list[str], task: str, way: str) -> Logits:
    "The logits of a coarser label set from the calibrated ones of the 28: of the likeliest member, or of any (noisy-or)."
    group = TASKS[task].maps["goemotions"]
    members = [[i for i, label in enumerate(labels28) if group[label] == name] for name in labels]

    def combine(proba: np.ndarray) -> np.ndarray:
        return proba.max(axis=1) if way == "max" else 1 - (1 - proba).prod(axis=1)

    return {
        name: logit(np.stack([combine(expit(rows[:, of])) for of in members], axis=1).clip(1e-7, 1 - 1e-7))
        for name, rows in logits.items()
    }


def calibrate(logits: Logits, splits: Splits, labels: list[str]) -> dict[str, Any]:
    "Temperature and thresholds from dev, as `settings.json` holds them."
    truth = encode_labels(splits["dev"].targets, labels)
    temperature = fit_temperature(logits["dev"], truth, True)
    thresholds = choose_thresholds(expit(logits["dev"] / temperature), truth).round(4)
    return {
        "labels": labels,
        "temperature": temperature,
        "thresholds": dict(zip(labels, thresholds.tolist(), strict=True)),
    }


def score(logits: Logits, splits: Splits, labels: list[str]) -> dict[str, Any]:
    """Scores with their intervals on dev and test, and the `settings` that dev chose (`calibrate`).

    `dev_choice` has dev's scores without the luck of thresholds chosen on the same rows: cross-validated.
    """
    settings = calibrate(logits, splits, labels)
    truth, thresholds = encode_labels(splits["dev"].targets, labels), np.array(list(settings["thresholds"].values()))
    scores: dict[str, Any] = {"settings": settings, "dev_choice": dev_scores(logits["dev"], truth)}
    for name in ("dev", "test"):
        proba = expit(logits[name] / settings["temperature"])
        table = prediction_table(splits[name], proba, labels, thresholds)
        scores[name] = compute_metrics(table, labels, thresholds)["goemotions"]
    return scores


def coarser(task: str, features: dict[str, np.ndarray], head28: Any, settings28: dict[str, Any]) -> tuple[Any, Any]:
    """The output layer for a coarser label set, and its scores beside those of other ways.

    `max` and `noisy-or` group the probabilities of the 28 labels; `hard targets` is an output layer fitted to the
    labels. The layer that is shipped (`head`) is fitted to the mean of the labels and the noisy-or. `LoRA of its own`
    is another training of the whole model.
    """
    splits, labels, _ = load_task(task)
    logits28 = {name: head_logits(head28, features, rows) / settings28["temperature"] for name, rows in splits.items()}
    ways = {way: grouped(logits28, settings28["labels"], labels, task, way) for way in ("max", "noisy-or")}
    hard = encode_labels(splits["train"].targets, labels)
    head, scores = best_head(features, splits, labels, (hard + expit(ways["noisy-or"]["train"])) / 2)
    others = {way: score(logits, splits, labels) for way, logits in ways.items()}
    others["hard targets"] = best_head(features, splits, labels, hard)[1]
    others["LoRA of its own"] = {"test": load_result(task)["runs"]["lora"][0]["metrics"]["goemotions"]}
    return head, {"head": scores, **others}


def write_shipped(
    folder: Path, tensors: dict[str, torch.Tensor], tasks: dict[str, Any], rank: int = RANK, **settings: Any
) -> None:
    "Write the two files that `shipped_checkpoint` reads, and their hashes."
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ADAPTER).write_bytes(save(tensors, {"format": "pt"}))  # save_file would make it private
    settings = {"encoder": MINILM, "lora_alpha": 2 * rank, "lora_rank": rank, **settings, "tasks": tasks}
    (folder / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n")
    write_hashes(folder, (ADAPTER, SETTINGS))


LOADING = f"""    from emo_nb import EmotionClassifier
    EmotionClassifier.from_pretrained("goemotions28").predict_frame(["Thank you so much, you saved my week"])

`pip install "emo_nb[offline]"` brings all that this needs. The folder holds what was trained, in float16: `{ADAPTER}`,
with LoRA of rank {RANK} and the output layers of the tasks goemotions28, {", ".join(COARSER)}; and `{SETTINGS}`, with the labels,
temperatures and thresholds. `emo_nb.engine.shipped` merges it into the bundled encoder. `save_pretrained` of the
classifier writes a plain transformers checkpoint."""


def make_card(
    name: str, record: dict[str, Any], labels: list[str], scores: dict[str, Any], loading: str, command: str
) -> str:
    "The model card of the shipped model of this name and 28 labels, whose training's `record` has seed, files and rows."
    of_run = {"task": name, "encoder": "minilm", "multi_label": True, "method": "lora", "split_used": "official"}
    of_run |= {key: record[key] for key in ("seed", "files", "rows")} | {"labels": labels, "command": command}
    of_run |= {"calibration": {"temperature": round(scores["settings"]["temperature"], 4)}}
    return model_card(of_run, {"goemotions": scores["test"]}, loading, f"`thresholds` in `{SETTINGS}`").rstrip() + "\n"


def coarser_scores(scores: dict[str, Any]) -> str:
    "The part of the model card with the scores of the coarser label sets."
    lines = ["", "## The coarser label sets", "", "| task | labels | macro-F1 on test |", "|---|---|---|"]
    for task in COARSER:
        head = scores[task]["head"]
        lines.append(f"| {task} | {', '.join(head['settings']['labels'])} | {format_interval(head['test'])} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anew", action="store_true", help="train again, also what is already there")
    if parser.parse_args().anew and RUNS.exists():
        shutil.rmtree(RUNS)
    started = utc_now()
    splits, labels, files = load_task()
    trained, training = trained_weights(splits, labels)
    tensors = rounded(trained)
    features = all_features({name: tensor.numpy() for name, tensor in tensors.items()}, splits)
    head = (tensors["goemotions28.weight"], tensors["goemotions28.bias"])
    logits = {name: head_logits(head, features, splits[name]) for name in ("dev", "test")}
    scores = {"goemotions28": {"head": score(logits, splits, labels)}}
    for task in COARSER:
        (weight, bias), scores[task] = coarser(task, features, head, scores["goemotions28"]["head"]["settings"])
        tensors |= {f"{task}.weight": weight, f"{task}.bias": bias}
    write_shipped(FOLDER, tensors, {task: ways["head"]["settings"] for task, ways in scores.items()})
    shipped = {task: {split: ways["head"][split] for split in ("dev", "test")} for task, ways in scores.items()}
    record = {"seed": SEED, "rows": {name: len(rows) for name, rows in splits.items()}, "files": files}
    (FOLDER / "scores.json").write_text(json.dumps(shipped, indent=1) + "\n")
    card = make_card("goemotions28", record, labels, scores["goemotions28"]["head"], LOADING, "python tools/ship.py")
    card += coarser_scores(scores)
    (FOLDER / "README.md").write_text(card, encoding="utf-8", newline="\n")
    record |= {"bytes": {file.name: file.stat().st_size for file in sorted(FOLDER.iterdir())}, "training": training}
    record |= {"starts": compare_starts(splits, labels), "scores": scores}
    write_result("shipped", record, started, "python tools/ship.py")


if __name__ == "__main__":
    main()

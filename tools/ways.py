"""Ways to a better small classifier that need no teacher: GoEmotions' 28 labels, the recipe and one change at a time.

    python tools/ways.py [WAY ...] [--seeds SEED ...]      train these, then write results/ways.json

The recipe over three seeds that begin from one head, and the mean of their weights; raters' votes as targets; an
encoder that has first guessed masked words of both corpora; thresholds chosen on predictions for the training comments,
each by a model that has not seen it. What is there in runs/ways/ is not made again. Dev rows choose, test rows report.
"""

import argparse
import shlex
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from shutil import copy, copytree
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from ablations import THRESHOLDS, cross_validated_f1
from distillation import (
    TaskRows,
    keep_model,
    load_rows,
    model_folder,
    more_texts,
    read_logits,
    read_result,
    summarize_ways,
    train_model,
)
from experiments import ROOT, SEEDS, write_result
from scipy.special import expit
from transformers import AutoModelForMaskedLM, DataCollatorForLanguageModeling, Trainer, TrainingArguments

from emo_nb.config import TrainConfig
from emo_nb.corpora import load_corpus, normalize_text
from emo_nb.encode import TextDataset, encode_labels
from emo_nb.evaluate import fit_temperature
from emo_nb.io.files import atomic_dir, atomic_file
from emo_nb.model import find_encoder, load_tokenizer
from emo_nb.predict import TrainedClassifier
from emo_nb.report import utc_now

FOLDER = ROOT / "runs" / "ways"
SETTINGS = TrainConfig("minilm", "finetune", 2)
FOLDS = 3
ADAPTATION_TEXTS = 60_000  # of the training texts of both corpora


@dataclass(frozen=True)
class Way:
    "How a model is trained otherwise than by the recipe."

    what: str
    votes: bool = False  # the raters' votes are part of the targets
    adapted: bool = False  # the encoder has guessed masked words first


WAYS = {
    "the recipe": Way("full fine-tuning, two epochs; one first output layer for all seeds"),
    "raters' votes": Way("where a rater's own answer is at hand, it is half of the target", votes=True),
    "adapted encoder": Way(
        "the encoder first guesses masked words in 60,000 training texts of both corpora", adapted=True
    ),
}


def rater_answers(rows: TaskRows) -> pd.DataFrame:
    "What single raters said of training comments: ones and zeros, a column a label; the index is the comment's row in train."
    train = rows.splits["train"]
    raters = load_corpus("goemotions-raw").frame
    # who gave no label found the comment unclear
    raters = raters[(raters.labels.map(len) > 0) & raters.group.isin(train.group)]
    place = pd.Series(np.arange(len(train)), index=train.group.to_numpy())
    return pd.DataFrame(encode_labels(raters.labels, rows.labels), index=place[raters.group].to_numpy())


def vote_targets(rows: TaskRows) -> np.ndarray:
    "(n_train, n_labels): where raters' own answers are at hand, half the official labels and half the share of raters."
    targets, shares = rows.targets("train").astype(np.float32), rater_answers(rows).groupby(level=0).mean()
    targets[shares.index] = (targets[shares.index] + shares.to_numpy()) / 2
    return targets


def count_votes(rows: TaskRows) -> dict[str, int]:
    """How many comments have an answer (`with_votes`) or only one (`with_one_vote`), and how many `votes` there are.

    `official_votes` are the comment's official labels.
    """
    answers = rater_answers(rows)
    of_comment, same = answers.groupby(level=0).size(), answers.to_numpy() == rows.targets("train")[answers.index]
    counts = {"with_votes": len(of_comment), "with_one_vote": int((of_comment == 1).sum()), "votes": len(answers)}
    return {**counts, "official_votes": int(same.all(axis=1).sum())}


def adapted_encoder(rows: TaskRows) -> Path:
    "The folder of MiniLM after one epoch of masked words; Gururangan et al. 2020, arXiv 2004.10964."
    place, minilm = FOLDER / "encoder", find_encoder("minilm")
    if place.exists():
        return place
    tokenizer, model = load_tokenizer(minilm, SETTINGS.max_length), AutoModelForMaskedLM.from_pretrained(minilm)
    texts = [*rows.texts, *more_texts(rows.task)]
    drawn = np.random.default_rng(SEEDS[0]).permutation(len(texts))[:ADAPTATION_TEXTS]
    data = TextDataset([texts[i] for i in drawn], tokenizer)
    with TemporaryDirectory() as temporary, atomic_dir(place, "config.json") as folder:
        arguments = TrainingArguments(
            temporary,
            num_train_epochs=1,
            per_device_train_batch_size=64,
            learning_rate=1e-4,
            warmup_steps=100,
            train_sampling_strategy="group_by_length",
            use_cpu=not torch.cuda.is_available(),
            bf16=True,
            save_strategy="no",
            report_to="none",
            seed=SEEDS[0],
        )
        Trainer(model, arguments, DataCollatorForLanguageModeling(tokenizer), data).train()
        copytree(minilm, folder, dirs_exist_ok=True)
        model.base_model.save_pretrained(temporary)
        copy(Path(temporary, "model.safetensors"), folder / "model.safetensors")
    return place


def train_way(name: str, seed: int, rows: TaskRows) -> Path:
    "The folder of a model, trained where it is not there yet: its weights, its history, its logits of dev and test."
    way, folder = WAYS[name], model_folder(name, seed, FOLDER)
    if folder.exists():
        return folder
    print(f"\n{name}, seed {seed}: {way.what}", flush=True)
    targets = vote_targets(rows) if way.votes else rows.targets("train")
    encoder = adapted_encoder(rows) if way.adapted else None
    model, tokenizer, history = train_model(rows.texts, targets, rows, SETTINGS, seed, encoder)
    keep_model(folder, model, tokenizer, history, rows)
    return folder


def out_of_fold_logits(rows: TaskRows) -> np.ndarray:
    """Logits of the training comments, each from a model of the recipe that was not trained on its text; kept in runs/.

    (n_train, n_labels), each model's divided by its temperature, so that thresholds can be chosen on all of them.
    """
    kept, train, dev = FOLDER / "out_of_fold.npy", rows.splits["train"], rows.splits["dev"]
    if kept.exists():
        return np.load(kept)
    fold_of = pd.factorize(normalize_text(train.text))[0] % FOLDS
    logits, targets = np.empty((len(train), len(rows.labels))), rows.targets("train")
    for fold in range(FOLDS):
        print(f"\nfold {fold + 1} of {FOLDS}", flush=True)
        others = fold_of != fold
        model, tokenizer, _ = train_model(list(train.text[others]), targets[others], rows, SETTINGS)
        classifier = TrainedClassifier(model.cpu().eval(), tokenizer)
        temperature = fit_temperature(classifier.logits(dev.text), rows.targets("dev"), True)
        logits[fold_of == fold] = classifier.logits(train.text[fold_of == fold]) / temperature
    with atomic_file(kept) as temporary, open(temporary, "wb") as stream:
        np.save(stream, logits)
    return logits


def score_thresholds(folders: list[Path], rows: TaskRows) -> dict[str, dict[str, list[float]]]:
    """Macro-F1 on dev for each way to choose thresholds, one score a seed.

    `dev`: each fifth of the rows gets those chosen on the others; `train and dev`: the predictions for the training
    comments are added to the others.
    """
    truth, train_truth = (rows.targets(name) for name in ("dev", "train"))
    logits, of_train = [read_logits(folder)["dev"] for folder in folders], expit(out_of_fold_logits(rows))
    probas = [expit(one / fit_temperature(one, truth, True)) for one in logits]
    f1: dict[str, dict[str, list[float]]] = {"dev": {}, "train and dev": {}}
    for name, choose in THRESHOLDS.items():

        def choose_on_all(proba: np.ndarray, of_dev: np.ndarray, choose: Any = choose) -> np.ndarray:
            return choose(np.concatenate([of_train, proba]), np.concatenate([train_truth, of_dev]))

        f1["dev"][name] = [cross_validated_f1(proba, truth, choose) for proba in probas]
        f1["train and dev"][name] = [cross_validated_f1(proba, truth, choose_on_all) for proba in probas]
    return f1


def write(rows: TaskRows, command: str) -> None:
    "results/ways.json from what is there, and from what it held of models that are not."
    started, before = utc_now(), read_result("ways")
    recipe = [folder for seed in SEEDS if (folder := model_folder("the recipe", seed, FOLDER)).exists()]
    what = {name: way.what for name, way in WAYS.items()}
    record = {
        "rows": {"train": len(rows.texts), **count_votes(rows)},
        "ways": summarize_ways(what, FOLDER, rows, before.get("ways", {})),
        "thresholds": score_thresholds(recipe, rows) if recipe else before.get("thresholds", {}),
        "files": rows.files,
    }
    write_result("ways", record, started, command)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="WAY", help=f"one of: {', '.join(WAYS)}")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, metavar="SEED")
    options, rows = parser.parse_args(), load_rows()
    for seed, name in product(options.seeds, options.names or WAYS):
        train_way(name, seed, rows)
    write(rows, shlex.join(["python", "tools/ways.py", *options.names, "--seeds", *map(str, options.seeds)]))


if __name__ == "__main__":
    main()

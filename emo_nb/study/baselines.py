"""What the same rows give without training an encoder: three baselines that take seconds."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..core import ConfigError
from ..encode import encode_labels, token_ids
from ..engine.checkpoints import quiet_transformers
from ..engine.device import best_cpu_dtype
from ..evaluate import choose_thresholds, fit_temperature, prediction_table, probabilities

BASELINES = ("majority", "tfidf", "frozen encoder")


def tfidf_features(train: pd.Series, *others: pd.Series) -> list[Any]:
    "Sparse TF-IDF matrices (n_texts, n_terms) of the words and word pairs that at least two training texts have."
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, strip_accents="unicode")
    return [vectorizer.fit_transform(train), *(vectorizer.transform(texts) for texts in others)]


def mean_embeddings(texts: pd.Series, encoder: Path, tokenizer: Any, batch_size: int = 64) -> np.ndarray:
    "The mean of an encoder's last hidden states over each text's tokens, scaled to length 1: (n_texts, hidden size)."
    import torch
    from transformers import AutoModel

    with quiet_transformers():
        model = AutoModel.from_pretrained(encoder, use_safetensors=True, trust_remote_code=False).eval()
    ids = token_ids(texts, tokenizer, truncation=True)
    order = np.argsort([len(row) for row in ids], kind="stable")
    embeddings = np.empty((len(ids), model.config.hidden_size), dtype=np.float32)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=best_cpu_dtype()[0] == "bfloat16"):
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = tokenizer.pad({"input_ids": [ids[i] for i in rows]}, return_tensors="pt")
            mask = batch["attention_mask"][..., None]
            mean = (model(**batch).last_hidden_state.float() * mask).sum(1) / mask.sum(1)
            embeddings[rows] = torch.nn.functional.normalize(mean).numpy()
    return embeddings


def majority_logits(truth: np.ndarray, n_rows: int, multi_label: bool) -> np.ndarray:
    "The share of each label in training, as logits, the same for every row: (n_rows, n_labels)."
    share = truth.mean(axis=0).clip(1e-6, 1 - 1e-6)
    return np.tile(np.log(share / (1 - share)) if multi_label else np.log(share), (n_rows, 1))


def linear_logits(truth: np.ndarray, multi_label: bool, train: Any, *others: Any) -> list[np.ndarray]:
    """Logits (n_rows, n_labels) of a logistic regression, for each of `others`.

    `train` and `others` are features (n_rows, n_features), dense or sparse; `truth` is (n_train, n_labels).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    model = LogisticRegression(C=10 if hasattr(train, "tocsr") else 30, max_iter=1000)
    if multi_label:
        several = OneVsRestClassifier(model).fit(train, truth.astype(int))
        return [several.decision_function(features) for features in others]
    model.fit(train, truth.argmax(axis=1))
    return [model.predict_log_proba(features) for features in others]


def baseline(
    name: str,  # one of BASELINES
    splits: dict[str, pd.DataFrame],  # train, dev and test, each with `text` and `targets`
    labels: list[str],
    multi_label: bool,
    encoder: Path,  # the folder of the frozen encoder
    tokenizer: Any,
) -> tuple[pd.DataFrame, np.ndarray | None]:
    "A baseline's prediction table on the test rows and its thresholds, calibrated on dev as a trained model is."
    if name not in BASELINES:
        raise ConfigError(f"there is no baseline {name!r}; choose one of: {', '.join(BASELINES)}")
    train, known = (encode_labels(splits[split].targets, labels) for split in ("train", "dev"))
    texts = [splits[split].text for split in ("train", "dev", "test")]
    if name == "majority":
        dev, test = (majority_logits(train, len(splits[split]), multi_label) for split in ("dev", "test"))
    elif name == "tfidf":
        dev, test = linear_logits(train, multi_label, *tfidf_features(*texts))
    else:
        dev, test = linear_logits(train, multi_label, *(mean_embeddings(part, encoder, tokenizer) for part in texts))
    temperature = fit_temperature(dev, known, multi_label)
    thresholds = choose_thresholds(probabilities(dev / temperature, True), known) if multi_label else None
    proba = probabilities(test / temperature, multi_label)
    return prediction_table(splits["test"], proba, labels, thresholds), thresholds

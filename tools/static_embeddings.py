"""Static embeddings: one vector a token, their mean, and a small network; by model2vec, trained on the same rows.

Called by tools/results.py; needs `pip install -e '.[offline,peers]'`. The vectors are made from MiniLM
(`model2vec.distill`), and vectors and network are trained together (`StaticModelForClassification.fit`) with model2vec's
own settings, in which dev stops the training. Temperature and thresholds come from dev, as for every other model.
"""

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from experiments import SEEDS, write_result
from model2vec.distill import distill
from model2vec.train import StaticModelForClassification
from scipy.special import logit
from ship import load_task, score

from emo_nb.model import find_encoder
from emo_nb.report import utc_now

TASK = "goemotions28"


def train_static(seed: int) -> dict[str, Any]:
    "Scores on dev and test, seconds of training, texts a second in prediction, and the size of the saved model."
    splits, labels, _ = load_task(TASK)
    begin = time.perf_counter()
    model = StaticModelForClassification.from_static_model(model=distill(str(find_encoder("minilm"))))
    texts, targets = ({name: list(rows[column]) for name, rows in splits.items()} for column in ("text", "targets"))
    sets = {name: [list(row) for row in rows] for name, rows in targets.items()}
    model.fit(texts["train"], sets["train"], X_val=texts["dev"], y_val=sets["dev"], random_seed=seed, device="cpu")
    trained = time.perf_counter()
    proba = {name: model.predict_proba(texts[name]) for name in ("dev", "test")}
    predicted = time.perf_counter()
    assert list(model.classes) == labels
    logits = {name: logit(rows.astype(np.float64).clip(1e-7, 1 - 1e-7)) for name, rows in proba.items()}
    with TemporaryDirectory() as folder:
        model.to_pipeline().save_pretrained(folder)
        size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    return {
        "seed": seed,
        "training_seconds": round(trained - begin, 1),
        "texts_per_second": round(len(texts["dev"] + texts["test"]) / (predicted - trained)),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "megabytes": round(size / 1e6, 1),
        **score(logits, splits, labels),
    }


def measure_static() -> None:
    "Writes results/static.json: three seeds."
    started = utc_now()
    write_result("static", {"task": TASK, "trainings": [train_static(seed) for seed in SEEDS]}, started)


if __name__ == "__main__":
    measure_static()

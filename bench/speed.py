"""How fast emo_nb trains and predicts on this machine, as ratios from one run.

Each way is measured in a fresh process, the ways in turn, several times; the medians are compared.
Usage: python bench/speed.py [--rows 512] [--rounds 3]
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

WAYS = ("import emo_nb", "train", "predict", "predict, bfloat16", "transformers pipeline")


def measure(way: str, rows: int) -> float:
    "Seconds that one way takes in this process, its own preparation aside."
    if way == "import emo_nb":
        start = time.perf_counter()
        import emo_nb  # noqa: F401

        return time.perf_counter() - start
    from emo_nb.corpora import load
    from emo_nb.encode import TextDataset
    from emo_nb.model import find_encoder, load_model, new_classifier, save_model, tokenizer_of, with_lora
    from emo_nb.predict import EmotionClassifier
    from emo_nb.train import TrainSettings, fit

    texts = list(load("goemotions").frame.text.head(rows))
    encoder = find_encoder("minilm")
    tokenizer = tokenizer_of(encoder, max_length=128)
    model = new_classifier(encoder, ["no", "yes"], "minilm")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if way == "train":
            import numpy as np

            data = TextDataset(texts, tokenizer, np.arange(len(texts)) % 2)
            few = TextDataset(texts[:2], tokenizer, np.arange(2))
            model = with_lora(model)
            start = time.perf_counter()
            fit(model, tokenizer, data, few, folder, TrainSettings(epochs=1, progress=False))
            return time.perf_counter() - start
        save_model(model, tokenizer, folder)
        if way == "transformers pipeline":
            from transformers import pipeline

            classify = pipeline("text-classification", model=str(folder / "model"))
            start = time.perf_counter()
            classify(texts, batch_size=32, truncation=True)
            return time.perf_counter() - start
        classifier = EmotionClassifier(*load_model(folder / "model"), mixed=way.endswith("bfloat16"))
        start = time.perf_counter()
        classifier.predict_proba(texts)
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(measure(args.one, args.rows))
        return
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(args.rounds):
        for way in WAYS:
            command = [sys.executable, __file__, "--one", way, "--rows", str(args.rows)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            seconds[way].append(float(done.stdout.splitlines()[-1]))
            print(f"{way:24} {seconds[way][-1]:7.2f} s", flush=True)
    median = {way: statistics.median(times) for way, times in seconds.items()}
    print(f"\nmedians of {args.rounds} rounds, {args.rows} texts, {platform.machine()}")
    for way, value in median.items():
        rate = "" if way == "import emo_nb" else f"{args.rows / value:8.0f} texts/s"
        print(f"{way:24} {value:7.2f} s {rate}")
    peer = median["transformers pipeline"]
    for way in ("predict", "predict, bfloat16"):
        print(f"{way}: {peer / median[way]:.1f} times as fast as the pipeline")
    record = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "rows": args.rows,
        "seconds": seconds,
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
    (Path(__file__).resolve().parent.parent / "results/bench_speed.json").write_text(
        json.dumps(record, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()

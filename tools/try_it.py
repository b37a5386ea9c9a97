"""The files of the page Try it: the model for a browser, what runs it there, and sentences for where neither can be had.

python tools/try_it.py build FOLDER   write to FOLDER all that the page loads; without npm, what it shows instead
python tools/try_it.py sentences      compute the probabilities of the saved sentences again

The model's weights are stored in 8 bits, or in 16 where 8 change too much, and become float32 when it is loaded.
ONNX Runtime and the tokenizer come from npm, in the versions of packages.json, whose tarballs' SHA-512 are checked.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "nbs/use/demo"  # what is ours: the page's script and style, the sentences, the list of npm packages
SENTENCES, PACKAGES, FILES = "sentences.json", "packages.json", "files.json"
MODEL = "goemotions28"
TOLERANCE = 0.02  # by how much a probability of a saved sentence may differ between the browser's model and Python's
MAX_BYTES = 35_000_000  # that the page may load


class Unavailable(Exception):
    "npm, the network or a Python package is missing, so the page has no model."


def build(target: Path) -> str:
    """Write all that the page loads to a folder, and return a sentence that says what is there.

    Without npm, a network or onnx, the folder has no model, and the page shows saved sentences. A tarball that is not
    the one in packages.json, or a model that does not agree with Python's, is an error.
    """
    shutil.copytree(SOURCE, target, dirs_exist_ok=True)
    listing: dict[str, Any] = {"bytes": 0, "files": {}}
    try:
        with tempfile.TemporaryDirectory() as made:
            add_packages(Path(made))
            add_model(Path(made))
            sizes = {file.name: file.stat().st_size for file in sorted(Path(made).iterdir())}
            if sum(sizes.values()) > MAX_BYTES:
                sys.exit(f"the page would load {sum(sizes.values()) / 1e6:.1f} MB, more than {MAX_BYTES / 1e6:.0f}")
            listing = {"bytes": sum(sizes.values()), "files": sizes, "max_length": max_length()}
            for name in sizes:
                shutil.copyfile(Path(made, name), target / name)
        message = f"Try it loads a model of {listing['bytes'] / 1e6:.1f} MB"
    except Unavailable as reason:
        message = f"Try it shows saved sentences only: {reason}"
    (target / FILES).write_text(json.dumps(listing, indent=1) + "\n", encoding="utf-8")
    return message


# ---- what comes from npm


def add_packages(folder: Path) -> None:
    "Write the files of npm packages that packages.json names. Raises `Unavailable` where npm cannot get them."
    packages = json.loads((SOURCE / PACKAGES).read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as downloads:
        npm_pack([f"{name}@{package['version']}" for name, package in packages.items()], Path(downloads))
        for name, package in packages.items():
            tarball = Path(downloads, f"{name.replace('@', '').replace('/', '-')}-{package['version']}.tgz")
            digest = base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
            if f"sha512-{digest}" != package["integrity"]:
                sys.exit(f"{name} {package['version']} is not the package whose SHA-512 is in {PACKAGES}")
            with tarfile.open(tarball) as archive:
                for path, target in package["files"].items():
                    write(folder / target, archive.extractfile(f"package/{path}").read())  # type: ignore[union-attr]


def npm_pack(packages: Sequence[str], folder: Path) -> None:
    "Download npm packages as tarballs to a folder, running nothing of theirs."
    if not (npm := shutil.which("npm")):
        raise Unavailable("npm is not installed")
    options = ["--ignore-scripts", "--prefer-offline", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
    try:
        done = subprocess.run([npm, "pack", *packages, *options], cwd=folder, capture_output=True, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"npm does not answer ({type(error).__name__})") from error
    if done.returncode:
        raise Unavailable("npm cannot download the packages")


def write(file: Path, content: bytes) -> None:
    """Write a file, gzipped where its name has `.gz`.

    The name does not end so, because some servers then tell the browser to decompress what its script decompresses.
    """
    file.write_bytes(gzip.compress(content, 9, mtime=0) if ".gz" in file.suffixes else content)


# ---- the model


def add_model(folder: Path) -> None:
    "Write the model and its tokenizer, once the model agrees with Python's on the saved sentences."
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise Unavailable(f"{error.name} is not installed") from error
    from emo_nb import ModelError
    from emo_nb.model import load_shipped

    try:
        checkpoint, tokenizer = load_shipped(MODEL)
    except ModelError as error:  # the encoder is not installed
        raise Unavailable(str(error)) from error
    content = small_graph(checkpoint).SerializeToString()
    check_agreement(content, tokenizer)
    write(folder / "model.onnx.gz.bin", content)
    write(folder / "tokenizer.json.gz.bin", tokenizer.backend_tokenizer.to_str().encode())


def max_length() -> int:
    "How many tokens of a text the model reads."
    from emo_nb.engine.shipped import MAX_LENGTH

    return MAX_LENGTH


def small_graph(checkpoint: Any) -> Any:
    """The model as ONNX with its weights in 8 bits, computed in float32.

    The attention of the last layer is stored in 16 bits: it is the identity with small changes, and a scale that has
    room for the ones is too coarse for the changes.
    """
    from emo_nb.engine.onnx_export import trace
    from emo_nb.engine.onnx_quantize import product_weights, store_small, weight_products

    graph, last = trace(checkpoint), f"layer.{checkpoint.config.num_hidden_layers - 1}/"
    attention = [node.name for node in weight_products(graph) if last in node.name][:4]  # query, key, value, output
    return store_small(graph, product_weights(graph, leave_out=attention).__contains__)


def check_agreement(content: bytes, tokenizer: Any) -> None:
    "Stop where a saved sentence has another probability in the browser's model than in Python's."
    from onnxruntime import InferenceSession

    saved = json.loads((SOURCE / SENTENCES).read_text(encoding="utf-8"))["sentences"]
    session = InferenceSession(content, providers=["CPUExecutionProvider"])
    for sentence in saved:
        ids = np.array([tokenizer(sentence["text"], truncation=True)["input_ids"]])
        batch = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        change = np.abs(session.run(["probabilities"], batch)[0][0] - sentence["probabilities"]).max()
        if change > TOLERANCE:
            sys.exit(f"the model for the browser differs by {change:.3f} in {sentence['text']!r}; is {SENTENCES} old?")


# ---- the saved sentences


def python_probabilities(texts: Sequence[str]) -> np.ndarray:
    "The probabilities of the shipped model in PyTorch and float32, (n_texts, n_labels)."
    import torch

    from emo_nb.model import load_shipped

    checkpoint, tokenizer = load_shipped(MODEL)
    with torch.inference_mode():
        batches = (tokenizer([text], truncation=True, return_tensors="pt") for text in texts)
        return np.concatenate([checkpoint.model(**batch).logits.sigmoid().numpy() for batch in batches])


def save_sentences() -> None:
    "Compute the probabilities of the sentences in sentences.json, and write them there with labels and thresholds."
    from emo_nb.engine.checkpoints import label_names
    from emo_nb.model import load_shipped

    file, config = SOURCE / SENTENCES, load_shipped(MODEL)[0].config
    texts = [sentence["text"] for sentence in json.loads(file.read_text(encoding="utf-8"))["sentences"]]
    labels = label_names(config)
    lines = [
        json.dumps({"text": text, "probabilities": row.round(4).tolist()}, ensure_ascii=False)
        for text, row in zip(texts, python_probabilities(texts).astype(float), strict=True)
    ]
    head = {"labels": labels, "thresholds": [round(config.emo_nb_thresholds[label], 4) for label in labels]}
    names = ",\n".join(f' "{name}": {json.dumps(values)}' for name, values in head.items())
    body = ",\n".join(f"  {line}" for line in lines)
    file.write_text(f'{{\n{names},\n "sentences": [\n{body}\n ]\n}}\n', encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build").add_argument("folder", type=Path)
    commands.add_parser("sentences")
    given = parser.parse_args()
    if given.command == "build":
        print(build(given.folder))
    else:
        save_sentences()


if __name__ == "__main__":
    main()

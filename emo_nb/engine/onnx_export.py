"""A trained classifier as a folder that ONNX Runtime runs without torch, transformers and emo_nb.

The folder holds the graph, the tokenizer in one file, the labels with their thresholds, and an example. It appears only
once the graph has been checked against the model: the same texts through the folder's own tokenizer and ONNX Runtime, and
through the model as this package computes it.

torch has two exporters. The older one, by tracing, is used: its file is as right, computes a tenth faster in ONNX
Runtime, and is written in a tenth of the time.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..core import ConfigError, ModelError, first_line, logger
from ..encode import pad_batch, token_batches
from ..evaluate import decide_labels, probabilities
from ..io.files import atomic_dir, check_output_dir, file_sha256
from .checkpoints import Checkpoint, is_multi_label, label_names, quiet_transformers, saved_thresholds
from .device import choose_backend
from .forward import first_token_forward, prepare_for_inference
from .onnx_engine import INPUTS, MODEL_FILE, OUTPUTS, SETTINGS_FILE, TOKENIZER_FILE
from .onnx_quantize import open_session, quantize_products, store_small

TOLERANCE = 1e-4  # by how much a probability of the float32 graph may differ from the model's
OPSET = 17  # the first with LayerNormalization
N_TEXTS, N_CALIBRATION = 1000, 200
MAX_BATCH_TOKENS = 2048  # in one batch, padding included

EXAMPLE = """import json, pathlib, numpy, onnxruntime, tokenizers

folder = pathlib.Path(__file__).parent
labels = json.loads((folder / "emo_nb.json").read_text("utf-8"))["labels"]
tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
session = onnxruntime.InferenceSession(folder / "model.onnx")
batch = tokenizer.encode_batch(["Thank you so much!", "I hate waiting"])
inputs = {"input_ids": [text.ids for text in batch], "attention_mask": [text.attention_mask for text in batch]}
for row in session.run(["probabilities"], {name: numpy.array(rows) for name, rows in inputs.items()})[0]:
    print(labels[row.argmax()], round(float(row.max()), 3))
"""


def export_onnx(
    scorer: Any,  # an `EmotionClassifier`, or anything with its `checkpoint`, `tokenizer` and `max_length`
    folder: str | Path,
    int8: bool = False,  # as many products as the outputs tolerate in 8-bit integers, and small files
    texts: Sequence[str] | None = None,  # on which graph and model are compared; of the built-in sample by default
    truth: np.ndarray | None = None,  # the labels of `texts`, (n_texts, n_labels), ones and zeros
    force: bool = False,  # replace a folder that an earlier export made
    show_progress_bar: bool = False,
) -> pd.DataFrame:
    """Write a classifier to `folder` as ONNX, and return how well it agrees with the model.

    One row for each format (`float32`, and `int8`): the number of `texts`, the `largest_change` of a probability, the
    share of texts whose most probable label (`same_label`) and, for a multi-label model, whose label set
    (`same_labels`) stay; with `truth`, `macro_f1`, beside the `model_macro_f1`; and the file's `size_mb`.

    Raises `ConfigError` where a package is missing or the folder may not be replaced, and `ModelError` where torch
    cannot export the model or the float32 graph differs from it by more than `TOLERANCE`.
    """
    check_packages()
    folder = Path(os.path.expanduser(folder))
    check_output_dir(folder, SETTINGS_FILE, force)
    scorer.checkpoint.model  # noqa: B018 (says where there is none: an export cannot be exported)
    tokenizer = standalone_tokenizer(scorer.tokenizer, scorer.max_length)
    with atomic_dir(folder, SETTINGS_FILE, force) as made:
        graph = trace(scorer.checkpoint)
        report = Comparison(scorer, tokenizer, texts, truth, show_progress_bar)
        report.add("float32", graph)
        if not report.rows[0]["largest_change"] <= TOLERANCE:  # nor is NaN
            raise ModelError(
                f"{scorer.checkpoint.config.model_type} as ONNX differs from the model by "
                f"{report.rows[0]['largest_change']:.2g} in a probability; use the model itself"
            )
        if int8:
            graph = to_int8(graph, tokenizer, scorer.checkpoint.config)
            report.add("int8", graph)
        _write(made, graph, tokenizer, scorer, report.rows[-1])
    table = report.table()
    logger.info("%s:\n%s", folder, table.to_string(index=False))
    return table


def check_packages() -> None:
    "Raise `ConfigError` where the packages that an export needs are not installed."
    if missing := [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]:
        raise ConfigError(f"an export needs {' and '.join(missing)}; pip install 'emo_nb[onnx]'")


def standalone_tokenizer(tokenizer: Any, max_length: int) -> Any:
    """A copy of a fast tokenizer (tokenizers.Tokenizer) that truncates at `max_length` tokens and pads a batch.

    Raises `ModelError` for a tokenizer that is written in Python.
    """
    from tokenizers import Tokenizer

    if not (backend := getattr(tokenizer, "backend_tokenizer", None)):
        raise ModelError(f"{type(tokenizer).__name__} cannot be saved as {TOKENIZER_FILE}; use a fast tokenizer")
    alone = Tokenizer.from_str(backend.to_str())
    alone.enable_truncation(max_length)
    if tokenizer.pad_token is None:
        alone.no_padding()
    else:
        alone.enable_padding(pad_id=tokenizer.pad_token_id, pad_token=tokenizer.pad_token)
    return alone


def trace(checkpoint: Checkpoint) -> Any:
    """A classifier as an ONNX model (onnx.ModelProto) in float32, batch and length free: `INPUTS` in, `OUTPUTS` out.

    Raises `ModelError` where torch cannot export the architecture.
    """
    import io
    from copy import deepcopy

    import onnx
    import torch

    model = deepcopy(checkpoint.model).to("cpu", torch.float32).eval()
    model.set_attn_implementation("eager")
    for layer, forward in first_token_forward(model).items():
        layer.forward = forward
    ids = torch.full((2, 5), min(9, checkpoint.config.vocab_size - 1))
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    buffer: Any = io.BytesIO()
    axes = {name: {0: "texts", 1: "tokens"} for name in INPUTS} | {name: {0: "texts"} for name in OUTPUTS}
    try:
        with quiet_transformers(), _quiet_stdout(), torch.no_grad():
            torch.onnx.export(
                _with_probabilities(model), (ids, mask), buffer, input_names=INPUTS, output_names=OUTPUTS,
                dynamic_axes=axes, opset_version=OPSET, dynamo=False,
            )  # fmt: skip
    except Exception as error:  # torch and each architecture have errors of their own
        raise ModelError(
            f"torch cannot export {type(model).__name__} as ONNX ({first_line(error)}); use another encoder"
        ) from error
    return onnx.load_from_string(buffer.getvalue())


def _with_probabilities(model: Any) -> Any:
    "The classifier as a module that returns its logits and its probabilities."
    import torch

    multi_label = is_multi_label(model.config)

    class Outputs(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            logits = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
            return logits, logits.sigmoid() if multi_label else logits.softmax(dim=-1)

    return Outputs().eval()


@contextmanager
def _quiet_stdout() -> Iterator[None]:
    "Without what torch's C++ code prints: the whole graph, where an export fails, whatever `verbose` is."
    stdout = os.dup(1)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)


def to_int8(graph: Any, tokenizer: Any, config: Any) -> Any:
    "An ONNX model with products of 8-bit integers (`quantize_products`), in a small file (`store_small`)."
    return store_small(quantize_products(graph, calibration_feeds(tokenizer, config)))


def calibration_feeds(tokenizer: Any, config: Any) -> list[dict[str, np.ndarray]]:
    "Batches of the texts of the built-in sample on which products are tried."
    ids = [encoding.ids for encoding in _encode(tokenizer, sample_texts()[0])]
    batches = token_batches(np.array([len(row) for row in ids]), MAX_BATCH_TOKENS)
    return [dict(zip(INPUTS, _pad(ids, rows, config), strict=True)) for rows in batches]


def sample_texts() -> tuple[list[str], list[str]]:
    """Texts of the built-in sample: some to calibrate on, and `N_TEXTS` others of one word to hundreds to compare on.

    Those to compare on are single comments, the first words of some, and 4, 16 and 64 comments joined.
    """
    with (files("emo_nb") / "sample" / "goemotions_raw.csv").open(encoding="utf-8") as file:
        sample = pd.read_csv(file).text.drop_duplicates().tolist()
    calibration, others = sample[:N_CALIBRATION], sample[N_CALIBRATION:]
    short = ["", "?", "🙂", *(text.split()[0] for text in others[:97])]
    joined = [" ".join((others * 2)[i : i + n]) for n, count in ((4, 100), (16, 40), (64, 5)) for i in range(count)]
    single = (others * 2)[: N_TEXTS - len(short) - len(joined)]
    return calibration, single + short + joined


def _encode(tokenizer: Any, texts: Sequence[str]) -> list[Any]:
    "Each text's encoding, without the padding that a batch would add."
    return [tokenizer.encode(text) for text in texts]


def _pad(ids: Sequence[Sequence[int]], rows: np.ndarray, config: Any) -> tuple[np.ndarray, np.ndarray]:
    tokens, mask = pad_batch([ids[i] for i in rows], config.pad_token_id or 0)
    return tokens.astype(np.int64), mask


class Comparison:
    "The model's probabilities of some texts, and how far those of graphs are from them, one row a graph."

    def __init__(
        self,
        scorer: Any,
        tokenizer: Any,
        texts: Sequence[str] | None,
        truth: Any = None,
        show_progress_bar: bool = False,
    ):
        from tqdm.auto import tqdm

        self.config, self.truth = scorer.checkpoint.config, truth
        self.multi_label = is_multi_label(self.config)
        texts = sample_texts()[1] if texts is None else list(texts)
        self.ids = [encoding.ids for encoding in _encode(tokenizer, texts)]
        self._bar = lambda: tqdm(total=len(texts), unit="text", disable=not show_progress_bar)
        self.rows: list[dict[str, Any]] = []
        self.expected = self._from_model(scorer, texts)

    def _from_model(self, scorer: Any, texts: list[str]) -> np.ndarray:
        import torch

        model = prepare_for_inference(scorer.checkpoint, choose_backend("cpu", "float32"))
        encoded = scorer.tokenizer(texts, truncation=True, max_length=scorer.max_length, return_attention_mask=False)
        if encoded["input_ids"] != self.ids:
            raise ModelError(f"the tokenizer changes when it is saved as {TOKENIZER_FILE}; use the model itself")
        with torch.inference_mode():
            return self._proba(
                lambda ids, mask: model(
                    input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)
                ).logits.numpy()
            )

    def _proba(self, logits_of: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
        "Probabilities, (n_texts, n_labels), from a function of token ids and attention mask."
        logits = np.empty((len(self.ids), self.config.num_labels))
        lengths = np.array([len(row) for row in self.ids])
        with self._bar() as bar:
            for rows in token_batches(lengths, max(MAX_BATCH_TOKENS, lengths.max())):
                logits[rows] = logits_of(*_pad(self.ids, rows, self.config))
                bar.update(len(rows))
        return probabilities(logits, self.multi_label)

    def add(self, name: str, graph: Any) -> None:
        "Run a graph on all texts and note how far it is from the model."
        session = open_session(content := graph.SerializeToString())
        proba = self._proba(lambda *batch: session.run(OUTPUTS[:1], dict(zip(INPUTS, batch, strict=True)))[0])
        self.rows.append({"format": name, **self.measure(proba), "size_mb": round(len(content) / 1e6, 1)})

    def measure(self, proba: np.ndarray) -> dict[str, Any]:
        "How far probabilities, (n_texts, n_labels), are from the model's."
        row: dict[str, Any] = {
            "texts": len(proba),
            "largest_change": float(np.abs(proba - self.expected).max()),
            "same_label": float((proba.argmax(axis=1) == self.expected.argmax(axis=1)).mean()),
        }
        if self.multi_label:
            row["same_labels"] = float((self._decide(proba) == self._decide(self.expected)).all(axis=1).mean())
        if self.truth is not None:
            row |= {"macro_f1": self.macro_f1(proba), "model_macro_f1": self.macro_f1(self.expected)}
        return row

    def _decide(self, proba: np.ndarray) -> np.ndarray:
        return decide_labels(proba, saved_thresholds(self.config))

    def macro_f1(self, proba: np.ndarray) -> float:
        "Macro-F1 of what these probabilities say, (n_texts, n_labels), beside the truth."
        from sklearn.metrics import f1_score

        return float(f1_score(np.asarray(self.truth) > 0, self._decide(proba), average="macro", zero_division=0))

    def table(self) -> pd.DataFrame:
        "One row for each graph that was compared."
        return pd.DataFrame(self.rows)


def _write(folder: Path, graph: Any, tokenizer: Any, scorer: Any, agreement: dict[str, Any]) -> None:
    "Write all files of an export."
    content, config = graph.SerializeToString(), scorer.checkpoint.config
    thresholds = saved_thresholds(config)
    settings = {
        "labels": label_names(config),
        "multi_label": is_multi_label(config),
        "thresholds": None if thresholds is None else thresholds.tolist(),
        "temperature": getattr(config, "emo_nb_temperature", None),  # already in the weights
        "window_pooling": getattr(config, "emo_nb_window_pooling", "mean"),
        "classes": getattr(config, "emo_nb_classes", None),  # labels that are numbers
        "max_length": scorer.max_length,
        "pad_token_id": config.pad_token_id or 0,
        "inputs": INPUTS,
        "outputs": OUTPUTS,
        "versions": {name: _version(name) for name in ("emo_nb", "torch", "onnx", "onnxruntime")},
        "sha256": hashlib.sha256(content).hexdigest(),  # of model.onnx
        "agreement": agreement,
    }
    (folder / MODEL_FILE).write_bytes(content)
    tokenizer.save(str(folder / TOKENIZER_FILE))
    settings["tokenizer_sha256"] = file_sha256(folder / TOKENIZER_FILE)
    (folder / SETTINGS_FILE).write_text(json.dumps(settings, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "example.py").write_text(EXAMPLE, encoding="utf-8")
    (folder / "README.md").write_text(_readme(settings), encoding="utf-8")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _readme(settings: dict[str, Any]) -> str:
    "What the folder's README.md says."
    agreement = settings["agreement"]
    decides = (
        "each label whose probability reaches its threshold" if settings["multi_label"] else "the most probable label"
    )
    lines = f"""# A text classifier as ONNX

`{MODEL_FILE}` ({agreement["size_mb"]} MB, {agreement["format"]}) takes token ids and attention mask and returns the logits and
the probabilities of {len(settings["labels"])} labels. `{SETTINGS_FILE}` names the labels; a text has {decides}.
On {agreement["texts"]:,} texts the largest change of a probability against the model in PyTorch was
{agreement["largest_change"]:.2g}, and {agreement["same_label"]:.1%} kept their most probable label.

    pip install onnxruntime tokenizers numpy
    python example.py

"""
    if agreement["format"] == "int8":
        lines += """On an x86 processor without VNNI, products of 8-bit numbers are clipped. There, make the session with options whose
`add_session_config_entry("session.x64quantprecision", "1")` was called: ONNX Runtime then avoids it.

"""
    return lines + "".join(f"    {line}\n" if line else "\n" for line in EXAMPLE.splitlines())

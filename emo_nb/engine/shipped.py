"""The models that come with the package: a LoRA adapter of 1.6 MB on the bundled encoder, and three output layers.

The adapter was trained on GoEmotions alone by `tools/ship.py`, and stored in float16; one output layer for each of
GoEmotions' three label sets stands beside it. What they are added to is made of the encoder's own weights, without a
random number: its six layers, and a seventh that starts as the mean of all tokens (`base_weights`). Merging takes
numpy and milliseconds, so the first answer waits neither for peft nor for a transformers model to be built.

The quick model is an adapter on that: on four of its seven layers, the added one among them, which `tools/fast.py` trained
on GoEmotions and on what the whole model says of it.
"""

import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..core import ModelError, first_line, read_json_object
from ..io.files import file_sha256
from .checkpoints import Checkpoint, load_config, quiet_transformers
from .pooling import MEAN_SCALE

SHIPPED_ENCODER = "goemotions28"  # the name of the encoder that the models of all layers share
FAST = "goemotions28-fast"
SHIPPED = (SHIPPED_ENCODER, FAST, "ekman7", "sentiment4")  # the models by name
FOLDER = Path(__file__).resolve().parents[1] / "shipped" / SHIPPED_ENCODER
FAST_FOLDER = FOLDER.with_name(FAST)
ADAPTER, SETTINGS, HASHES = "adapter.safetensors", "settings.json", "SHA256SUMS"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
MAX_LENGTH = 256  # tokens that a text had in training
_REINSTALL = "reinstall emo_nb (pip install --force-reinstall emo_nb), or name another model"


def base_weights(encoder: Path) -> dict[str, np.ndarray]:
    """What the adapter is added to: the weights of a BERT encoder and of one more layer and a pooler, in float32.

    The added layer starts as `emo_nb.engine.pooling.init_mean_pooling` has it, but takes the keys and the first half of the
    feed-forward network, which are random there, from the encoder's last layer.
    """
    from safetensors.numpy import load_file

    weights = {name: w for name, w in load_file(encoder / "model.safetensors").items() if "position_ids" not in name}
    last = max(int(name.split(".")[2]) for name in weights if name.startswith("encoder.layer."))
    last_layer, added = f"encoder.layer.{last}.", f"encoder.layer.{last + 1}."
    for name in [name for name in weights if name.startswith((last_layer, "pooler."))]:
        is_kept = ".key." in name or ".intermediate." in name
        weights[name.replace(last_layer, added)] = weights[name].copy() if is_kept else np.zeros_like(weights[name])
    identity = np.eye(len(weights["pooler.dense.weight"]), dtype=np.float32)
    weights |= {"pooler.dense.weight": identity, f"{added}attention.self.value.weight": identity.copy()}
    weights[f"{added}attention.output.dense.weight"] = identity * np.float32(MEAN_SCALE)
    weights[f"{added}attention.output.LayerNorm.weight"] += 1
    weights[f"{added}output.LayerNorm.weight"] += np.float32(0.5)
    return {f"bert.{name}": weight for name, weight in weights.items()}


def merge_lora(weights: dict[str, np.ndarray], adapter: dict[str, np.ndarray], scale: float) -> dict[str, np.ndarray]:
    """The weights with LoRA added: W + scale * B @ A, in float32.

    `adapter` holds `MODULE.lora_A`, (rank, inputs), and `MODULE.lora_B`, (outputs, rank), in any float format.
    """
    merged = dict(weights)
    for module in [name.removesuffix(".lora_A") for name in adapter if name.endswith(".lora_A")]:
        a, b = (adapter[f"{module}.{part}"].astype(np.float32) for part in ("lora_A", "lora_B"))
        merged[f"{module}.weight"] = merged[f"{module}.weight"] + np.float32(scale) * (b @ a)
    return merged


def keep_layers(weights: dict[str, np.ndarray], layers: Sequence[int]) -> dict[str, np.ndarray]:
    "The weights of a BERT encoder without its other layers; those that are kept are numbered anew."
    kept = {}
    for name, weight in weights.items():
        before, layer, after = name.partition("encoder.layer.")
        number, _, rest = after.partition(".")
        if layer and int(number) not in layers:
            continue
        kept[f"{before}{layer}{layers.index(int(number))}.{rest}" if layer else name] = weight
    return kept


def encoder_weights(encoder: Path, settings: dict[str, Any], tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    "A shipped encoder: the bundled one, or the `layers` that its settings name of the shipped one; LoRA merged in."
    layers = settings.get("layers")
    base = keep_layers(encoder_weights(encoder, *read_shipped()), layers) if layers else base_weights(encoder)
    return merge_lora(base, tensors, lora_scale(settings))


def read_shipped(folder: Path = FOLDER) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The shipped settings, and the tensors of the adapter and the output layers.

    The settings are `encoder`, `lora_alpha`, `lora_rank`, `layers` of the quick model and, of each of `tasks`, its
    `labels` in the order of the outputs, its `temperature` and its `thresholds`. Raises `ModelError` where a byte of
    the two files has changed.
    """
    from safetensors.numpy import load_file

    check_hashes(folder, (ADAPTER, SETTINGS))
    return read_json_object(folder / SETTINGS, ModelError, _REINSTALL), load_file(folder / ADAPTER)


def shipped_checkpoint(name: str, encoder: Path, folder: Path | None = None) -> Checkpoint:
    """The shipped model of one of the names `SHIPPED`, on the bundled encoder's folder: a plain BERT classifier.

    The temperature is in the weights, the thresholds are in the config. Raises `ModelError` where there is no such
    model, or a byte of its files has changed.
    """
    import torch

    if name not in SHIPPED:
        raise ModelError(f"there is no model {name!r} in the package; choose one of: {', '.join(SHIPPED)}")
    settings, tensors = read_shipped(folder or (FAST_FOLDER if name == FAST else FOLDER))
    task, weights = settings["tasks"][name], encoder_weights(encoder, settings, tensors)
    for part in ("weight", "bias"):
        weights[f"classifier.{part}"] = tensors[f"{name}.{part}"].astype(np.float32) / np.float32(task["temperature"])
    config = classifier_config(name, task, encoder, len(settings.get("layers", ())) or None)
    return Checkpoint(config, {key: torch.from_numpy(weight) for key, weight in weights.items()})


def lora_scale(settings: dict[str, Any]) -> float:
    "What B @ A is multiplied by."
    return float(settings["lora_alpha"] / settings["lora_rank"])


def classifier_config(name: str, task: dict[str, Any], encoder: Path, n_layers: int | None = None) -> Any:
    "The config of a shipped classifier, as `emo_nb.run` leaves that of a model of its own; by default of seven layers."
    labels = task["labels"]
    with quiet_transformers():
        config = load_config(
            encoder,
            id2label=dict(enumerate(labels)),
            label2id={label: i for i, label in enumerate(labels)},
            problem_type="multi_label_classification",
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    config.num_hidden_layers = n_layers or config.num_hidden_layers + 1
    config.architectures, config._name_or_path = ["BertForSequenceClassification"], name
    config.emo_nb_encoder, config.emo_nb_head = "minilm", "mean"
    config.emo_nb_temperature, config.emo_nb_thresholds = round(task["temperature"], 4), task["thresholds"]
    return config


def shipped_encoder(encoder: Path, cache: Path) -> Path:
    """A folder with the shipped model as an encoder: seven layers and the pooler, without an output layer, in float32.

    It is written into `cache` once, and written again where a byte of it has changed. Its name has the adapter's hash,
    so another version of the package has another folder. Raises `ModelError` where it cannot be written.
    """
    from filelock import FileLock

    from ..io.files import atomic_dir, remove_path

    target = cache / f"{SHIPPED_ENCODER}-{read_hashes(FOLDER)[ADAPTER][:12]}"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f".{target.name}.lock"):
            with suppress(ModelError):
                check_hashes(target)
                return target
            if target.exists():
                remove_path(target)
            with atomic_dir(target, HASHES) as temporary:
                _write_encoder(encoder, temporary)
    except OSError as error:
        raise ModelError(
            f"{cache} cannot be written ({first_line(error)}); set EMO_NB_CACHE to another folder"
        ) from error
    return target


def _write_encoder(encoder: Path, target: Path) -> None:
    "Write the merged encoder, its config, the tokenizer and the hashes of all of them."
    from safetensors.numpy import save

    weights = encoder_weights(encoder, *read_shipped())
    weights = {name.removeprefix("bert."): weight for name, weight in weights.items()}
    (target / "model.safetensors").write_bytes(save(weights, {"format": "pt"}))  # save_file would make it private
    with quiet_transformers():
        config = load_config(encoder)
    config.num_hidden_layers += 1
    config.save_pretrained(target)
    for name in _TOKENIZER_FILES:
        shutil.copyfile(encoder / name, target / name)
    write_hashes(target)


def write_hashes(folder: Path, names: Iterable[str] | None = None) -> None:
    "Write the SHA-256 of files of a folder, by default of all, to `SHA256SUMS` there, as `sha256sum` does."
    files = sorted(names or (file.name for file in folder.iterdir() if file.name != HASHES))
    (folder / HASHES).write_text("".join(f"{_sha256(folder / name)}  {name}\n" for name in files))


def read_hashes(folder: Path) -> dict[str, str]:
    "What `write_hashes` wrote, by file. Raises `ModelError` where that cannot be read."
    try:
        lines = (folder / HASHES).read_text("utf-8").splitlines()
        return {name: sha256 for sha256, name in (line.split("  ") for line in lines)}
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / HASHES} cannot be read ({first_line(error)}); {_REINSTALL}") from error


def check_hashes(folder: Path, wanted: Iterable[str] = ()) -> None:
    "Raise `ModelError` where a file of a folder is not the one whose SHA-256 is noted there, or is not noted at all."
    hashes = read_hashes(folder)
    for name in {*hashes, *wanted}:
        if _sha256(folder / name) != hashes.get(name):
            raise ModelError(f"{folder / name} is not the file that belongs there; {_REINSTALL}")


def _sha256(file: Path) -> str:
    "The SHA-256 of a file; an empty string where it cannot be read."
    with suppress(OSError):
        return file_sha256(file)
    return ""

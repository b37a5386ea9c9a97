"""Everything that decides a run, in one place: `Config`, its training settings `TrainConfig`, and three presets.

The settings are checked when a `Config` is made, so a mistake costs nothing. None means a default that depends on the
rest: the task's own split, the method's own rate, the machine's own number format. `resolved` fills in what depends on the
method; what depends on the data or the machine is decided where these are known, and written into the run's record.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, create_model

from .core import Attention, ConfigError, Device, Dtype, Method, Split, Unlabelled
from .io.schema import check_record
from .taxonomy import TextUnit

CORPORA = {"both": ("goemotions", "empathetic"), "goemotions": ("goemotions",), "empathetic": ("empathetic",)}

# What suits each method; None in a TrainConfig stands for these.
METHOD_DEFAULTS: dict[str, dict[str, Any]] = {
    "lora": {"batch_size": 32, "learning_rate": 1e-3},
    "finetune": {"batch_size": 64, "learning_rate": 2.8e-4},
}

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Share = Annotated[float, Field(ge=0, le=1)]
_Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class TrainConfig:
    "How a model is trained. Learning rates are those after the warm-up; they stay constant until the end."

    encoder: str | None = None  # minilm, goemotions28, a folder or a hub id; by default chosen by the labels
    method: Method = "lora"  # or finetune: train every layer
    epochs: _Positive = 3  # at most; the one that scores best on dev is kept
    batch_size: _Count | None = None  # texts of mean length, whose tokens a batch has room for; the method's own
    learning_rate: _Positive | None = None  # of the encoder's last layer; the method's own
    head_learning_rate: _Positive = 3e-2  # of the output layer, which starts from scratch
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 0.8  # a layer's rate, as a share of the rate of the one above
    warmup_ratio: _Share = 0.1  # share of all steps
    weight_decay: _NotNegative = 0.01  # of AdamW; biases and norms have none
    averaging_power: _NotNegative | None = 3  # step t weighs t**power in the mean of the weights
    lora_rank: _Count = 16  # dimensions of each adapter
    max_length: Annotated[int, Field(ge=8)] = 256  # tokens; longer texts are truncated
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # in the encoder
    save_steps: _Count = 200  # steps between checkpoints within an epoch
    early_stopping_rounds: _Count | None = None  # epochs without a better dev score, after which training stops

    def __post_init__(self) -> None:
        if isinstance(self.encoder, os.PathLike):
            object.__setattr__(self, "encoder", os.fspath(self.encoder))
        _check_types(self)

    def resolved(self) -> "TrainConfig":
        "The same settings, with the method's defaults in place of None."
        defaults = METHOD_DEFAULTS[self.method]
        return replace(self, **{name: value for name, value in defaults.items() if getattr(self, name) is None})


@dataclass(frozen=True)
class Config:
    "Everything that decides a run: the data, how much of them, the training, the machine, and where the results go."

    task: str | None = None  # shared10 for the two corpora, the labels of the file for a table of your own
    corpus: Literal["both", "goemotions", "empathetic"] | None = None  # all that the task knows
    text_unit: TextUnit | None = None  # what one text of EmpatheticDialogues is; the task's own
    split: Split | None = None  # into train, dev and test; the task's own
    data: str | None = None  # where the corpus is, or a table of your own
    text_col: str | None = None  # of your own table
    label_col: str | None = None  # of your own table
    label_cols: tuple[str, ...] | None = None  # of your own table, in place of label_col: 0 or 1 for one label each
    label_sep: str | None = None  # what separates several labels in a cell, or "none"; found by the reader
    label_names: tuple[str, ...] | str | None = None  # names of labels that are numbers, from 0 on; or a file of them
    group_col: str | None = None  # of your own table: rows with the same value stay on one side of a split
    unlabelled: Unlabelled | None = None  # rows without a label; negative where they are marked so, and not blank
    label_map: dict[str, str] | None = None  # from the labels of your own table to those of the task, or to new ones
    preset: str = "small"  # the name of the values that this Config started from
    train_rows_per_label: _Count | None = 600  # in each corpus; None takes all
    dev_rows_per_label: _Count | None = 150  # likewise
    test_rows_per_label: _Count | None = None  # likewise
    first_turns_only: bool = True  # train on the first utterance of each conversation only
    train: TrainConfig = field(default_factory=TrainConfig)
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42  # of every random choice
    device: Device | None = None  # a GPU where there is one
    dtype: Dtype | None = None  # the number format that the machine is fast at
    attention: Attention | None = None  # how it is computed: by length and device
    out: str | None = None  # the run directory; named after the settings
    force: bool = False  # replace a run that is there, and begin an interrupted one anew
    show_progress_bar: bool = True  # on standard error

    def __post_init__(self) -> None:
        for name in ("data", "out", "label_names"):
            if isinstance(path := getattr(self, name), os.PathLike):
                object.__setattr__(self, name, os.fspath(path))  # it is written to a JSON file
        for name in ("label_cols", "label_names"):
            if isinstance(names := getattr(self, name), list):  # as JSON has it
                object.__setattr__(self, name, tuple(names))
        _check_types(self)
        if not isinstance(self.train, TrainConfig):
            raise ConfigError(f"the settings: train should be a TrainConfig, not {self.train!r:.40}; give one")
        if self.preset not in PRESET_NAMES:
            raise ConfigError(f"there is no preset {self.preset!r}; choose one of: {', '.join(PRESET_NAMES)}")
        check_table_options(self.data, self.table_options() | ({"map": self.label_map} if self.label_map else {}))

    @classmethod
    def from_preset(cls, name: str, **changes: Any) -> "Config":
        """A preset with some settings changed; those of `TrainConfig` may be given beside those of `Config`.

        Raises `ConfigError` for a preset or a setting that does not exist.
        """
        if name not in PRESETS:
            raise ConfigError(f"there is no preset {name!r}; choose one of: {', '.join(PRESETS)}")
        preset = PRESETS[name]
        for_training = {key: changes.pop(key) for key in list(changes) if key in _TRAIN_FIELDS}
        if unknown := [key for key in changes if key not in _FIELDS]:
            known = sorted({*_FIELDS, *_TRAIN_FIELDS} - {"train"})
            hint = get_close_matches(unknown[0], known, n=1)
            raise ConfigError(
                f"there is no setting {unknown[0]!r}; "
                + (f"did you mean {hint[0]}?" if hint else f"choose one of: {', '.join(known)}")
            )
        given = changes.pop("train", preset.train)
        if not isinstance(given, TrainConfig):
            raise ConfigError(f"the settings: train should be a TrainConfig, not {given!r:.40}; give one")
        train = replace(given, **for_training)
        return replace(preset, **changes, train=train)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Config":
        "The settings among the entries of a run's `config.json`; earlier versions had other names for some."
        known = {name: value for name, value in record.items() if name in _FIELDS | _TRAIN_FIELDS}
        preset = known.pop("preset", None) or record.get("profile") or "small"
        known.setdefault("text_unit", record.get("unit"))
        if known.get("task") in ("own", "custom"):
            known["task"] = None
        if known.get("method") == "full":
            known["method"] = "finetune"
        return cls.from_preset(preset, **known)

    def to_record(self) -> dict[str, Any]:
        "All settings as one flat dict, as `config.json` holds them."
        record = asdict(self)
        for_training = record.pop("train")
        return {**record, **for_training}

    def table_options(self) -> dict[str, Any]:
        "The settings that say how the user's own table is read, as `read_table` takes them; those that are None are not."
        return {name: value for name in TABLE_OPTIONS if (value := getattr(self, name)) is not None}

    @property
    def has_own_table(self) -> bool:
        "Whether the settings say that the data are a table of the user's own: by an option for one, or the task `custom`."
        return bool(self.table_options() or self.label_map or self.task == "custom")

    @property
    def task_name(self) -> str:
        "The task that is meant; `custom` stands for the labels of the user's own table."
        return self.task or ("custom" if self.has_own_table else "shared10")

    @property
    def run_dir(self) -> Path:
        "The run directory: `out`, or `runs/` and a name made of the settings."
        table = Path(self.data).stem if self.has_own_table and self.data else None
        parts = (
            self.task_name,
            table or self.corpus,
            self.text_unit,
            self.train.method,
            self.preset,
            f"seed{self.seed}",
        )
        return Path(self.out or "runs/" + "-".join(part for part in parts if part))


_TRAIN_FIELDS = {setting.name for setting in fields(TrainConfig)}
_FIELDS = {setting.name for setting in fields(Config)}
PRESET_NAMES = ("small", "full", "tiny")
TABLE_OPTIONS = ("text_col", "label_col", "label_cols", "label_sep", "label_names", "group_col", "unlabelled")


def _check_types(settings: TrainConfig | Config) -> None:
    "Raise `ConfigError` where a setting has another type or range than its annotation says."
    for name, value in vars(settings).items():
        if getattr(value, "shape", None) == ():  # a number of numpy's: JSON, in which runs are recorded, has none
            object.__setattr__(settings, name, value.item())
    kinds: dict[str, Any] = {one.name: (one.type, ...) for one in fields(settings) if one.name != "train"}
    model = create_model("Settings", __config__=ConfigDict(strict=True), **kinds)
    values = {name: getattr(settings, name) for name in kinds}
    check_record(values, model, "the settings", ConfigError, "choose another value")


def check_table_options(data: str | None, options: Mapping[str, Any]) -> None:
    "Raise `ConfigError` where options for a table of the user's own (`TABLE_OPTIONS`, `map`) do not go together."
    if not options:
        return
    names = ", ".join(f"--{name.replace('_', '-')}" for name in options)
    if not data:
        raise ConfigError(f"{names}: options for a table of your own; name the table with --data")
    if "label_col" in options and "label_cols" in options:
        raise ConfigError(
            "--label-col names one column of labels, --label-cols one for each label; give one of the two"
        )
    if "text_col" in options and not {"label_col", "label_cols"} & set(options):
        raise ConfigError("--text-col alone does not say where the labels are; add --label-col, or --label-cols")


PRESETS = {
    # minutes on two CPU cores, with scores close to those of all rows
    "small": Config(),
    # all rows, with the study's encoder; hours on a CPU
    "full": Config(
        preset="full",
        train_rows_per_label=None,
        dev_rows_per_label=None,
        first_turns_only=False,
        train=TrainConfig(encoder="BAAI/bge-small-en", epochs=2),
    ),
    # for tests: shows that everything works
    "tiny": Config(
        preset="tiny",
        train_rows_per_label=20,
        dev_rows_per_label=5,
        test_rows_per_label=10,
        first_turns_only=False,
        train=TrainConfig(epochs=1),
    ),
}

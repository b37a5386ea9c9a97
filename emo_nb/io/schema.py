"""The written schemas of what emo_nb keeps: the tidy frame, the run directory, the files in `results/`.

Each is a pydantic model with a version. `check_record` and `check_frame` hold a record or a table against its model where
it is read, and turn the first violation into one sentence; a file written by a newer emo_nb is refused by name.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from ..core import EmoNbError

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 1


class Section(BaseModel):
    "A part of a record. Types are strict: the string '42' is not a number."

    model_config = ConfigDict(strict=True, extra="allow")


class Record(Section):
    "A record that is kept as a whole, with the version of its schema."

    version: int = Field(0, alias="schema", ge=0, description="of this schema; 0 where the file is older than versions")


def check_record(
    record: Mapping[str, Any], model: type[BaseModel], where: object, error: type[EmoNbError], remedy: str
) -> None:
    "Raise `error`, ending in `remedy`, where a record is newer than `SCHEMA_VERSION` or does not fit the model."
    version = record.get("schema", 0)
    if isinstance(version, int) and version > SCHEMA_VERSION:
        newer = f"{where} was written by a newer emo_nb (version {version}; this one knows {SCHEMA_VERSION})"
        raise error(f"{newer}; update emo_nb")
    try:
        model.model_validate(record)
    except ValidationError as violations:
        raise error(f"{where}: {_describe_error(violations)}; {remedy}") from None


def _describe_error(error: ValidationError) -> str:
    "The first violation in one line: the field, what it should be, and what it is."
    first = error.errors(include_url=False, include_context=False)[0]
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"])
    field, words = _shorten("".join(steps).removeprefix("."), 80), first["msg"]
    if first["type"] == "missing":
        return f"{field} is missing"
    if words.startswith("Input should"):
        return f"{field} {words.removeprefix('Input ')}, not {_shorten(repr(first['input']), 40)}"
    return f"{field}: {words[0].lower()}{words[1:]}"


def _shorten(words: str, most: int) -> str:
    "In one line of at most `most` characters."
    line = " ".join(words.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def check_frame(
    frame: "pd.DataFrame", model: type[Record], where: object, error: type[EmoNbError], remedy: str
) -> None:
    "`check_record` for a table: each field of the model is a column; rows are counted from 0."
    entries: dict[str, Any] = {}
    for name, column in frame.items():
        cells = zip(column.tolist(), column.notna().tolist(), strict=True)
        entries[str(name)] = [cell if known else None for cell, known in cells]
    check_record({**entries, "schema": frame.attrs.get("schema", 0)}, model, where, error, remedy)


Name = Annotated[str, Field(pattern=r"\S")]


class TidyFrame(Record):
    "The tidy frame, by columns."

    text: list[Name] = Field(description="as the person wrote it; `_comma_` decoded, nothing else rewritten")
    labels: list[tuple[Name, ...]] = Field(description="the corpus's own labels in the corpus's own words; may be ()")
    corpus: list[Name] = Field(description="`goemotions`, `empathetic`, or the user's name for their own")
    perspective: list[Literal["author", "reader"] | None] = Field(description="the original study's names")
    annotator: list[Literal["observer", "self"] | None] = Field(description="who gave the label")
    role: list[Literal["comment", "speaker", "listener", "prompt", "dialogue"]] = Field(description="whose text it is")
    group: list[str] = Field(description="a comment, a conversation: never on two sides of a split")
    split: list[Literal["train", "dev", "test"] | None] = Field(description="the official one, where there is one")


class Hardware(Section):
    "A machine."

    processor: str
    features: list[str] = Field([], description="what it computes with, by torch's names")
    threads: int = Field(ge=1)
    gpu: str | None


class Provenance(Record):
    "When, how long, by which command, with which versions, on which machine."

    date: str = Field(description="of the start, ISO 8601, UTC")
    seconds: float = Field(ge=0, description="the duration")
    command: str | None = Field(description="that made it; None where a program did")
    memory_mb: int | None = Field(None, description="peak memory of the process, where the system reports it")
    versions: dict[str, str] = Field(description="of Python and the packages")
    hardware: Hardware = Field(description="`processor`, `threads`, `gpu`")


class Calibration(Section):
    "The temperature, and the calibration before and after it."

    temperature: float = Field(gt=0)


class TrainingRecord(Provenance):
    "The settings of a run, and what it was made of."

    task: Name = Field(description="a built-in task, or `custom`: the labels of the user's own table")
    corpus: str | None = Field(
        None, description="`goemotions`, `empathetic` or `both`; all that the task knows if none"
    )
    preset: str | None = Field(None, description="`small`, `full` or `tiny`")
    encoder: Name = Field(description="`minilm`, a folder or a hub id")
    method: Name = Field(description="`lora` or `finetune`")
    split: str | None = Field(None, description="`group`, `study` or `official`; the task's if none")
    text_unit: str | None = Field(
        None,
        validation_alias=AliasChoices("text_unit", "unit"),  # its earlier name
        description="what counts as one text of EmpatheticDialogues; the task's if none",
    )
    seed: int = Field(ge=0)
    rows: dict[str, int] = Field(description="of train, dev and test")
    parameters: dict[str, int] | None = Field(None, description="of the model: `all`, and those `trained`")
    calibration: Calibration = Field(description="`temperature`, reliability and calibration error on test rows")
    train_seconds: float | None = Field(None, description="of reading and training")
    files: dict[str, str] = Field(description="the data, with their SHA-256")


class RunRecord(TrainingRecord):
    "`config.json` of a run directory."

    labels: list[Name] = Field(min_length=2, description="in the order of the model's outputs")
    multi_label: bool = Field(description="may a text have several?")
    split_used: Name | None = Field(None, description="how the rows were split; an earlier version did not write it")
    origins: dict[str, str] = Field({}, description="how each corpus was found")
    data: str | None = Field(None, description="where the corpus or the user's own table lay")
    text_col: str | None = Field(None, description="of the user's own table")
    label_col: str | None = Field(None, description="of the user's own table")
    label_cols: list[str] | None = Field(None, description="columns of 0 and 1, in place of `label_col`")
    label_sep: str | None = Field(None, description="between several labels in a cell; `none` if there is none")
    label_names: list[str] | str | None = Field(None, description="of labels that are numbers, or a file with them")
    group_col: str | None = Field(None, description="whose equal values stay on one side of a split")
    unlabelled: str | None = Field(None, description="rows without a label: `negative` or `drop`")
    label_map: dict[str, str] | None = Field(None, description="from the table's labels to those of the task")


Share = Annotated[float, Field(ge=0, le=1)]
Interval = Annotated[list[Share], Field(min_length=2, max_length=2)]


class LabelScores(Section):
    "The scores of one label."

    precision: Share
    recall: Share
    f1: Share
    support: float = Field(gt=0, description="test rows that have the label")
    f1_interval: Interval | None = None
    threshold: Share | None = Field(
        None, description="from which probability on it counts, where a text may have several"
    )


class Scores(Section):
    "The scores on one corpus."

    macro_f1: Share
    micro_f1: Share
    weighted_f1: Share
    accuracy: Share = Field(description="share of texts whose labels are all right, and no other given")
    top3: Share = Field(description="share of texts with a right label among the three most probable")
    majority: Share = Field(description="accuracy of giving all texts the most frequent label")
    calibration_error: Share = Field(description="expected, 15 bins")
    rows: int = Field(ge=1, description="of test")
    intervals: dict[str, Interval] = Field(description="95 % bootstrap interval of each score, over groups")
    labels: dict[str, LabelScores] = Field(description="precision, recall, f1, support, f1_interval, threshold")


class Metrics(Record):
    "`metrics.json` of a run directory, its corpora gathered under one name."

    corpora: dict[str, Scores] = Field(min_length=1)


class Predictions(Record):
    "`predictions.csv` of a run directory, by columns; every further column is a label with its probabilities."

    __pydantic_extra__: dict[str, list[Share]]
    corpus: list[Name] = Field(min_length=1)
    group: list[str]
    role: list[str] | None = None
    text: list[str]
    label: list[str] = Field(description="the true one; several are joined by `|`; empty where a text has none")
    predicted: list[str] = Field(description="the model's; empty where no label reaches its threshold")
    confidence: list[Share] = Field(description="the highest probability")


class ScoreTable(Record):
    "`scores.csv` of a run directory, by columns."

    corpus: list[Name] = Field(min_length=1)
    label: list[Name]
    precision: list[Share]
    recall: list[Share]
    f1: list[Share]
    support: list[float]

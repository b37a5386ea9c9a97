"""The options of the commands, each with what its help says; those that several commands share stand here once."""

import os
from collections.abc import Callable
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..core import Attention, Device, Dtype, LongTexts, Method, Split, Unlabelled, split_names
from ..taxonomy import TextUnit

DataPath = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="File, folder, archive, pattern or address: CSV, TSV, JSON Lines, JSON or Parquet, also .gz or .zst; or "
        "hf:NAME, kaggle:OWNER/NAME.",
    ),
]

# How a table of the user's own is read: the same options in every command that reads one
TextCol = Annotated[
    str | None, typer.Option("--text-col", "--text", help="Column of the texts, in a table of your own.")
]
LabelCol = Annotated[
    str | None,
    typer.Option(
        "--label-col",
        "--label",
        help="Column of the labels. Several labels of a text stand in one cell: joy|love, or a list.",
    ),
]
LabelCols = Annotated[
    str | None, typer.Option(help="In place of --label-col: columns of 0 and 1, one for each label, as joy,love,fear.")
]
LabelSep = Annotated[
    str | None, typer.Option(help="What separates several labels in a cell; none if a label may hold , ; or |.")
]
LabelNames = Annotated[
    str | None, typer.Option(help="Names of labels that are numbers, from 0 on: as joy,love,fear, or a file.")
]
GroupCol = Annotated[
    str | None, typer.Option(help="Column whose equal values (a thread, an author) stay on one side of a split.")
]
UnlabelledOption = Annotated[
    Unlabelled | None,
    typer.Option(
        "--unlabelled",
        help="Rows without a label: texts that have none of them, or left out. "
        "Default: negative where they are marked so ([], or zeros), left out where the label is blank.",
    ),
]
_TABLE_OPTIONS: dict[str, Any] = {
    "text_col": TextCol,
    "label_col": LabelCol,
    "label_cols": LabelCols,
    "label_sep": LabelSep,
    "label_names": LabelNames,
    "group_col": GroupCol,
    "unlabelled": UnlabelledOption,
}


def takes_table_options(command: Callable[..., None]) -> Callable[..., None]:
    "The command with `_TABLE_OPTIONS` in place of its parameter `columns`, which holds those that are given."

    @wraps(command)
    def with_options(**given: Any) -> None:
        columns = {name: value for name in _TABLE_OPTIONS if (value := given.pop(name)) is not None}
        if "label_cols" in columns:
            columns["label_cols"] = split_names(columns["label_cols"])
        if "," in columns.get("label_names", "") and not os.path.exists(columns["label_names"]):
            columns["label_names"] = split_names(columns["label_names"])
        command(columns=columns, **given)

    parameters = []
    for parameter in signature(command).parameters.values():
        if parameter.name == "columns":
            parameters += [
                parameter.replace(name=n, annotation=kind, default=None) for n, kind in _TABLE_OPTIONS.items()
            ]
        else:
            parameters.append(parameter)
    with_options.__signature__ = signature(command).replace(parameters=parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_options


# The model and the machine
ModelOption = Annotated[
    str | None,
    typer.Option(
        help="A run directory, a model folder, a model of the hub, or one that comes with emo_nb: goemotions28, "
        "goemotions28-fast, ekman7, sentiment4. Default: the newest run, or goemotions28 where there is none."
    ),
]
DeviceOption = Annotated[
    Device | None,
    typer.Option(help="What to compute on. Default: a GPU where there is one."),
]
DtypeOption = Annotated[
    Dtype | None,
    typer.Option(help="Number format. Default: what the machine is fast at; `emo-nb info` says it."),
]

# A training
TaskOption = Annotated[str | None, typer.Option(help="Default: shared10, or your own table's labels.")]
CorpusOption = Annotated[
    Literal["both", "goemotions", "empathetic"] | None, typer.Option(help="Default: all that the task knows.")
]
PresetOption = Annotated[
    Literal["small", "full", "tiny"],
    typer.Option(
        "--preset",
        "--profile",
        help="How much to train on. small: 600 training and 150 dev rows of a label, minutes on two cores; "
        "full: all rows, with a larger encoder, hours; tiny: 20, 5 and 10 test rows, to see that it works.",
    ),
]
RowsOption = Annotated[
    str | None, typer.Option(help="Training rows of a label, a number or all, in place of the preset's.")
]
EncoderOption = Annotated[
    str | None,
    typer.Option(
        help="minilm, goemotions28, a folder or a hub id. Default: the preset's; for emotions of your own, goemotions28."
    ),
]
MethodOption = Annotated[Method, typer.Option(help="Adapters, or every layer.")]
SplitOption = Annotated[
    Split | None,
    typer.Option(help="How rows are split into train, dev and test. Default: the task's, or your table's own."),
]
TextUnitOption = Annotated[
    TextUnit | None,
    typer.Option("--text-unit", "--unit", help="What one text of EmpatheticDialogues is. Default: the task's."),
]
EpochsOption = Annotated[float | None, typer.Option(help="Default: the preset's.")]
SeedOption = Annotated[int, typer.Option(help="Decides every random choice.")]
RunDirOption = Annotated[
    str | None, typer.Option(help="The run directory. Default: runs/ and a name from the settings.")
]
RunForceOption = Annotated[
    bool, typer.Option("--force", help="Replace a run that is already there; begin an interrupted one anew.")
]
AttentionOption = Annotated[Attention | None, typer.Option(help="Eager or fused. Default: by length and device.")]
MapFile = Annotated[
    Path | None,
    typer.Option(
        "--map",
        help='JSON file that gives your table\'s labels other names, as {"glad": "joy", "cross": "anger"}. '
        "Rows whose labels it lacks are left out.",
    ),
]

# A prediction
TextsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        help="Texts; without any, --file or standard input. Before a text that begins with a dash, write -- "
        "alone: emo-nb predict -- '-1 for this'"
    ),
]
FileOption = Annotated[
    str | None,
    typer.Option(
        help="A .csv, .tsv, .jsonl, .json or .parquet file, .gz and .zst too, or one text a line; a folder of such files, "
        "a pattern in quotes ('texts/*.csv'), or an address (https://, s3://, gs://, hf://)."
    ),
]
FileTextCol = Annotated[
    str | None,
    typer.Option("--text-col", "--text", help="Column of the texts. Default: text, or the only column."),
]
FormatOption = Annotated[
    Literal["table", "jsonl", "csv", "parquet"] | None,
    typer.Option("--format", help="How to write the predictions. Default: as --out ends, else a table."),
]
AnswersOption = Annotated[
    Path | None,
    typer.Option(
        help="Write to this file: .csv, .jsonl or .parquet; without an ending, the table of the screen. "
        "A file that is there is kept."
    ),
]
AnswersForceOption = Annotated[
    bool, typer.Option("--force", help="Replace the file that is there; begin an interrupted run anew.")
]
ThresholdOption = Annotated[
    list[str] | None,
    typer.Option(
        help="From which probability on a label counts: 0.3, or joy=0.4. Default: those saved with the model."
    ),
]
TopKOption = Annotated[int | None, typer.Option(help="At most so many labels a text, the most probable first.")]
LongTextsOption = Annotated[
    LongTexts,
    typer.Option(help="Read the beginning of a long text, or all of it in overlapping windows."),
]
LeftOutOption = Annotated[
    bool, typer.Option("--tokens-left-out", help="Add a column: how many tokens of each text were not read.")
]
KeepOption = Annotated[
    str,
    typer.Option(
        help="Columns of a table that stand beside the predictions: all, none, or their names, separated by commas."
    ),
]
EngineOption = Annotated[
    Literal["local", "ray"],
    typer.Option(
        help="local, or Ray Data: workers on this machine, or on those of a cluster, write a folder of parts."
    ),
]
AddressOption = Annotated[
    str | None, typer.Option(help="Of a Ray cluster; auto for the one that this machine belongs to. Default: none.")
]

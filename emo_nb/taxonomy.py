"""The label sets, and the maps from one to another."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from .core import RESERVED_COLUMNS, ConfigError, DataError

GOEMOTIONS = (
    "admiration", "amusement", "anger", "annoyance", "approval", "caring", "confusion",
    "curiosity", "desire", "disappointment", "disapproval", "disgust", "embarrassment", "excitement",
    "fear", "gratitude", "grief", "joy", "love", "nervousness", "optimism",
    "pride", "realization", "relief", "remorse", "sadness", "surprise", "neutral",
)  # fmt: skip

EMPATHETIC = (
    "afraid", "angry", "annoyed", "anticipating", "anxious", "apprehensive", "ashamed", "caring",
    "confident", "content", "devastated", "disappointed", "disgusted", "embarrassed", "excited", "faithful",
    "furious", "grateful", "guilty", "hopeful", "impressed", "jealous", "joyful", "lonely",
    "nostalgic", "prepared", "proud", "sad", "sentimental", "surprised", "terrified", "trusting",
)  # fmt: skip

SHARED10 = ("joy", "anger", "sadness", "fear", "surprise", "disgust", "love", "gratitude", "neutral", "pride")

EKMAN7 = ("anger", "disgust", "fear", "joy", "sadness", "surprise", "neutral")
SENTIMENT4 = ("positive", "negative", "ambiguous", "neutral")

GOEMOTIONS_TO_SHARED10 = {label: label for label in SHARED10}

EMPATHETIC_TO_SHARED10 = {
    context: shared
    for shared, contexts in {
        "joy": ("joyful", "excited", "content", "hopeful"),
        "anger": ("angry", "furious", "annoyed"),
        "sadness": ("sad", "lonely", "devastated"),
        "fear": ("afraid", "terrified", "apprehensive"),
        "surprise": ("surprised",),
        "disgust": ("disgusted",),
        "love": ("sentimental", "nostalgic"),
        "gratitude": ("grateful",),
        "pride": ("proud",),
    }.items()
    for context in contexts
}


def _invert(groups: Mapping[str, Iterable[str]]) -> dict[str, str]:
    "From {group: labels} to {label: group}."
    return {label: group for group, labels in groups.items() for label in labels}


GOEMOTIONS_TO_EKMAN7 = _invert(
    {
        "anger": ("anger", "annoyance", "disapproval"),
        "disgust": ("disgust",),
        "fear": ("fear", "nervousness"),
        "joy": (
            "joy", "amusement", "approval", "excitement", "gratitude", "love",
            "optimism", "relief", "pride", "admiration", "desire", "caring",
        ),
        "sadness": ("sadness", "disappointment", "embarrassment", "grief", "remorse"),
        "surprise": ("surprise", "realization", "confusion", "curiosity"),
        "neutral": ("neutral",),
    }
)  # fmt: skip
_POLARITY = {"joy": "positive", "anger": "negative", "disgust": "negative", "fear": "negative", "sadness": "negative"}
GOEMOTIONS_TO_SENTIMENT4 = {
    label: {**_POLARITY, "surprise": "ambiguous", "neutral": "neutral"}[ekman]
    for label, ekman in GOEMOTIONS_TO_EKMAN7.items()
}

Unit = Literal["utterance", "prompt", "speaker", "dialogue"]  # what one text of EmpatheticDialogues can be
UNITS: tuple[str, ...] = get_args(Unit)


@dataclass(frozen=True)
class Task:
    "A classification task: its labels, whether a text may have several, and the map from each corpus's own labels."

    name: str
    labels: tuple[str, ...]  # in the order that breaks ties
    multi_label: bool = False  # may one text have several?
    maps: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # corpus -> its label -> the task's label
    split: str = "group"  # or official, where the corpora have one
    unit: str = "utterance"  # what counts as one text of EmpatheticDialogues: one of `UNITS`
    capped: tuple[str, ...] = ()  # labels limited to 10,000 training rows

    def __post_init__(self) -> None:
        if len(set(self.labels)) < 2:
            raise ConfigError(
                f"task {self.name!r} needs at least two different labels, not {list(self.labels)}; add some"
            )
        for corpus, labels in self.maps.items():
            if unknown := sorted(map(str, set(labels.values()) - set(self.labels))):
                raise ConfigError(
                    f"task {self.name!r} maps {corpus} onto labels it does not have: {', '.join(unknown)}; correct the map"
                )

    def map_for(self, corpus: str) -> Mapping[str, str]:
        "The map of one corpus; `ConfigError` where the task has none."
        if corpus not in self.maps:
            raise ConfigError(
                f"task {self.name!r} has no map for corpus {corpus!r}; choose one of: {', '.join(self.maps)}"
            )
        return self.maps[corpus]

    def labels_of(self, own: Iterable[str], corpus: str) -> tuple[str, ...]:
        "A row's own labels, mapped onto the task's, in the task's order; labels that the map lacks are dropped."
        to = self.map_for(corpus)
        mapped = {to[label] for label in own if label in to}
        return tuple(label for label in self.labels if label in mapped)


TASKS = {
    "shared10": Task(
        "shared10",
        SHARED10,
        maps={"goemotions": GOEMOTIONS_TO_SHARED10, "empathetic": EMPATHETIC_TO_SHARED10},
        capped=("neutral",),
    ),
    "goemotions28": Task(
        "goemotions28",
        GOEMOTIONS,
        multi_label=True,
        maps={"goemotions": {label: label for label in GOEMOTIONS}},
        split="official",
    ),
    "ekman7": Task("ekman7", EKMAN7, multi_label=True, maps={"goemotions": GOEMOTIONS_TO_EKMAN7}, split="official"),
    "sentiment4": Task(
        "sentiment4", SENTIMENT4, multi_label=True, maps={"goemotions": GOEMOTIONS_TO_SENTIMENT4}, split="official"
    ),
    "empathetic32": Task(
        "empathetic32",
        EMPATHETIC,
        maps={"empathetic": {label: label for label in EMPATHETIC}},
        split="official",
        unit="prompt",
    ),
}


def get_task(name: str) -> Task:
    "The built-in task of that name; `ConfigError` names the ones there are."
    if not isinstance(name, str) or name not in TASKS:
        raise ConfigError(f"there is no task {name!r}; choose one of: {', '.join(TASKS)}")
    return TASKS[name]


def custom_task(labels: Iterable[tuple[str, ...]], corpus: str, name: str = "custom") -> Task:
    "A task from the labels of the user's own table (one tuple a row): multi-label where any row has several."
    rows = [row for row in labels if row]
    names = tuple(sorted({label for row in rows for label in row}))
    if not rows:
        raise DataError(f"corpus {corpus!r} has no labelled row; add labels")
    if len(names) == 1:
        raise DataError(
            f"corpus {corpus!r} has only one label ({names[0]!r}); add rows of another, because a classifier needs two"
        )
    if taken := RESERVED_COLUMNS & set(names):
        raise DataError(
            f"{corpus!r} has a label called {min(taken)!r}, which is the name of a column of the results; rename it"
        )
    several = any(len(set(row)) > 1 for row in rows)
    return Task(name, names, several, {corpus: {label: label for label in names}})

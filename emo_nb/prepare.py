"""From the tidy frame to a task's rows: labels, balance, and a split without leaks."""

from collections.abc import Sequence

import pandas as pd

from .core import ConfigError, DataError
from .corpora import check_tidy, normalize_text
from .taxonomy import Task

SPLITS = ("train", "dev", "test")


def map_labels(frame: pd.DataFrame, task: Task) -> pd.DataFrame:
    """The rows that the task has a label for, with the column `targets`: a tuple of the task's labels.

    A single-label task keeps the first of a row's labels, in the task's order. Raises `DataError` where the frame is
    not tidy or no row is left, `ConfigError` where the task has no map for a corpus.
    """
    check_tidy(frame)
    mapped = [task.labels_of(own, corpus) for own, corpus in zip(frame.labels, frame.corpus, strict=True)]
    targets = mapped if task.multi_label else [labels[:1] for labels in mapped]
    labelled = frame.assign(targets=pd.Series(targets, index=frame.index, dtype=object))
    labelled = labelled[labelled.targets.map(len) > 0].reset_index(drop=True)
    if labelled.empty:
        raise DataError(f"no row has a label of task {task.name!r} ({', '.join(task.labels)}); choose another task")
    return labelled


def _check_targets(frame: pd.DataFrame) -> None:
    if "targets" not in frame:
        raise DataError("the rows have no column 'targets'; give the rows that `map_labels` returns")


def balance(
    frame: pd.DataFrame,
    cap: int = 10_000,  # rows kept of each capped label
    labels: Sequence[str] = ("neutral",),  # the capped labels
    seed: int = 42,
) -> pd.DataFrame:
    "At most `cap` rows with each capped label as their only one, drawn at random; all other rows are kept; shuffled."
    _check_targets(frame)
    only = frame.targets.map(lambda row: row[0] if len(row) == 1 else "")
    capped = only.isin(labels)
    drawn = [
        rows.sample(cap, random_state=seed) if len(rows) > cap else rows
        for _, rows in frame[capped].groupby(only[capped], sort=True)
    ]
    return pd.concat([frame[~capped], *drawn]).sample(frac=1, random_state=seed)


def split_rows(
    frame: pd.DataFrame, how: str = "group", seed: int = 42, test: float = 0.2, dev: float = 0.1
) -> dict[str, pd.DataFrame]:
    """The rows of train, dev and test, by name.

    `group` keeps the rows of one comment or conversation together, `official` takes the corpora's own splits, `study`
    splits at random. `test` and `dev` are shares of all groups (of all rows for `study`). Rows of train whose text
    also stands in dev or test are dropped, but not for `study`. Raises `ConfigError` for an unknown way, or one that
    the data cannot be split by.
    """
    _check_targets(frame)
    if how == "official":
        if frame.split.isna().any():
            corpora = ", ".join(frame[frame.split.isna()].corpus.unique())
            raise ConfigError(f"{corpora} has no official split in this form; split by group (--split group)")
        return _drop_leaks(frame, frame.split.astype(str))
    if how == "study":
        assigned = _random_split(frame.targets.str[0], seed, test, dev)
        return {name: frame[assigned == name] for name in SPLITS}
    if how != "group":
        raise ConfigError(f"there is no split {how!r}; choose one of: group, study, official")
    group = frame.corpus.astype(str) + "/" + frame.group
    strata = frame.targets.str[0] + " (" + frame.corpus.astype(str) + ")"
    one_a_group = strata.groupby(group, sort=False).first()
    return _drop_leaks(frame, group.map(_random_split(one_a_group, seed, test, dev)))


def _random_split(strata: pd.Series, seed: int, test: float, dev: float) -> pd.Series:
    "train, dev or test for each entry of `strata`, so that each stratum has the same share in each split."
    from sklearn.model_selection import train_test_split

    counts = strata.value_counts()
    if (counts < 3).any():
        name, n = counts.index[-1], counts.iloc[-1]
        raise ConfigError(
            f"{name!r} has {n} text(s), but train, dev and test need at least one each; add texts to make three"
        )
    try:
        rest, tested = train_test_split(strata, test_size=test, stratify=strata, random_state=seed)
        trained, developed = train_test_split(rest, test_size=dev / (1 - test), stratify=rest, random_state=seed)
    except ValueError as error:
        raise ConfigError(
            f"{len(strata)} texts are too few to split {strata.nunique()} labels into train, dev and test; add texts"
        ) from error
    parts = zip(SPLITS, (trained, developed, tested), strict=True)
    return pd.concat([part.map(lambda _, name=name: name) for name, part in parts]).reindex(strata.index)


def _drop_leaks(frame: pd.DataFrame, assigned: pd.Series) -> dict[str, pd.DataFrame]:
    "Train without texts that stand in dev or test, dev without those of test, compared by `normalize_text`."
    text = normalize_text(frame.text)
    test, dev = (set(text[assigned == name]) for name in ("test", "dev"))
    leaks = ((assigned == "train") & text.isin(test | dev)) | ((assigned == "dev") & text.isin(test))
    return {name: frame[(assigned == name) & ~leaks] for name in SPLITS}


def deduplicate(frame: pd.DataFrame) -> pd.DataFrame:
    "The first of the rows with the same corpus, labels and normalized text."
    keys = pd.DataFrame({"corpus": frame.corpus, "targets": frame.targets, "text": normalize_text(frame.text)})
    return frame[~keys.duplicated()]


def sample_per_label(frame: pd.DataFrame, n: int, seed: int = 42) -> pd.DataFrame:
    "Up to `n` rows of each label in each corpus, drawn at random, in the frame's order."
    each = frame.sample(frac=1, random_state=seed)[["corpus", "targets"]].explode("targets")
    drawn = each.groupby(["corpus", "targets"], observed=True, sort=False).head(n)
    return frame[frame.index.isin(drawn.index)]

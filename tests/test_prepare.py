"""Splits: the same rows for the same seed as ever, and no row that stops a run; rows without a label; a table's own split."""

import hashlib
import json
import random
from dataclasses import replace

import pandas as pd
import pytest
from helpers import refusal

from emo_nb.config import Config
from emo_nb.core import ConfigError, DataError
from emo_nb.corpora import as_tidy, load_corpus, normalize_text
from emo_nb.prepare import balance, deduplicate, hold_out, map_labels, sample_per_label, split_rows
from emo_nb.run import make_splits
from emo_nb.taxonomy import TASKS, custom_task

pytestmark = pytest.mark.usefixtures("alone")


def own_rows(labels, texts=None, groups=None, split=None):
    "Labelled rows of a table of the user's own, with their task."
    numbers = range(len(labels))
    texts, groups = texts or [f"sentence {i}" for i in numbers], groups or [f"group {i}" for i in numbers]
    rows = pd.DataFrame({"text": texts, "labels": labels, "group": groups, "split": split or [None] * len(labels)})
    frame = as_tidy(rows, corpus="own", role="comment")
    task = custom_task(frame.labels, "own")
    task = replace(task, split="given") if split else task
    return map_labels(frame, task), task


def labels_in(rows):
    return set(rows.targets.explode().dropna())


# The same rows as before rare labels were taken care of, as SHA-256 of their indices, texts and labels

SAMPLES = {
    ("goemotions", "shared10", "group"): ("b520e2ac96b9", "be5fd58bd41b", "8acc04decce3"),
    ("goemotions", "shared10", "study"): ("24c060458fc5", "fe5e7b1015d1", "d46474e4fe5f"),
    ("goemotions", "ekman7", "group"): ("210654c74fb1", "bb04dc05fc00", "a0328f091302"),
    ("empathetic", "shared10", "group"): ("dc24db402992", "f80214ba37d4", "a645e75daf0b"),
    ("empathetic", "shared10", "official"): ("f416c94db733", "df61696d0399", "83aff504c82f"),
}
TABLES = {  # rows, labels, rows of a group, several labels a row
    (60, 3, 1, False, "group"): ("4fbb3bc87cdf", "952bee54939e", "9d3c197d7953"),
    (60, 3, 1, False, "study"): ("261f9725fe1d", "c56c1b5f3190", "06b22d364b50"),
    (200, 5, 1, True, "group"): ("6e59036b6d27", "7026690d653b", "d9a7ca10a4bb"),
    (400, 4, 3, False, "group"): ("06e433d99ff7", "288fb851b8b5", "1b26ae41b5de"),
    (1000, 12, 2, True, "group"): ("7afd5f72b033", "2de3310fc6c7", "e0d43b445128"),
}


def split_hashes(rows, how):
    "The hash of the splits of each seed from 0 to 2, the training rows balanced, deduplicated and sampled."
    for seed in range(3):
        splits = split_rows(rows, how, seed)
        splits["train"] = sample_per_label(deduplicate(balance(splits["train"], cap=20, seed=seed)), 15, seed)
        content = {
            name: [list(map(str, part.index)), list(part.text), list(map(list, part.targets))]
            for name, part in splits.items()
        }
        yield hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


@pytest.mark.parametrize("key", SAMPLES, ids=" ".join)
def test_the_corpora_are_split_as_ever(key):
    corpus, task, how = key
    rows = map_labels(load_corpus(corpus).frame, TASKS[task])
    assert tuple(split_hashes(rows, how)) == SAMPLES[key]


@pytest.mark.parametrize("key", TABLES, ids=str)
def test_a_table_without_rare_labels_is_split_as_ever(key):
    size, n_labels, per_group, several, how = key
    rng = random.Random(size)
    names = [f"l{i}" for i in range(n_labels)]
    kinds = [
        tuple(sorted(rng.sample(names, rng.choice((1, 1, 2))))) if several else (rng.choice(names),)
        for _ in range(size)
    ]
    texts = [f"sentence {rng.randrange(size * 3)} in words" for _ in range(size)]
    rows, _ = own_rows(kinds, texts, [f"g{i // per_group}" for i in range(size)])
    assert tuple(split_hashes(rows, how)) == TABLES[key]


# Rare labels, repeated texts, rows without a label

KINDS = [("joy",), ("anger",), ("sadness",)] * 40
TEXTS = [f"sentence {i}" for i in range(60)]
RARE = {
    "once": own_rows([*KINDS[:59], ("rare",)]),
    "twice": own_rows([*KINDS[:58], ("rare",), ("rare",)]),
    "once, several labels a row": own_rows([("joy", "anger"), *KINDS[:58], ("rare",)]),
    "once, beside another": own_rows([*KINDS[:59], ("joy", "rare")]),
    "three, each beside another": own_rows([*KINDS[:57], ("joy", "rare"), ("anger", "b"), ("rare", "c", "sadness")]),
    "ten rows of one group": own_rows([*KINDS[:50], *[("rare",)] * 10], None, [*TEXTS[:50], *["one"] * 10]),
    "sixty copies of one text": own_rows([*KINDS[:60], *[("rare",)] * 60], [*TEXTS, *["the same"] * 60]),
    "copies with two labels": own_rows([*KINDS[:60], *[("rare",), ("joy",)] * 30], [*TEXTS, *["the same"] * 60]),
    "each text three times": own_rows(KINDS[:60], [f"sentence {i // 3}" for i in range(60)]),
    "three of each": own_rows([(label,) for label in "abcde"] * 3),
    "more labels than test rows": own_rows([(f"label {i}",) for i in range(11)] * 5),
    "without a label": own_rows([*[()] * 30, *KINDS[:30]]),
    "few with a label": own_rows([*[()] * 300, *[("a",), ("b", "c"), ("b",)] * 3]),
}


@pytest.mark.parametrize("case", RARE)
@pytest.mark.parametrize("how", ["group", "study"])
def test_a_rare_label_stops_no_run_and_is_learnt_whatever_the_seed(case, how, caplog):
    rows, task = RARE[case]
    for seed in range(20):
        caplog.clear()
        splits = make_splits(rows, task, Config(task="custom", data="own", split=how, seed=seed))
        train, dev, test = splits.values()
        assert labels_in(train) == labels_in(rows), seed
        assert labels_in(dev) and labels_in(test)
        for label in labels_in(rows) - labels_in(test):
            assert f"no test row is labelled {label!r}" in caplog.text
        if how == "group":
            for column in (lambda part: set(part.group), lambda part: set(normalize_text(part.text))):
                sides = [column(part) for part in (train, dev, test)]
                assert len(set.union(*sides)) == sum(map(len, sides)), seed


def test_what_cannot_be_tested_is_said_with_what_is_missing(caplog):
    rows, _ = RARE["once"]
    split_rows(rows, "group")
    assert (
        "'rare', so how well it is recognised cannot be said (rows with it: 1); to test it, add 4 more" in caplog.text
    )
    caplog.clear()
    rows, _ = own_rows([*KINDS[:59], *[("rare",)] * 3])  # the two that were asked for
    split_rows(rows, "group")
    assert not caplog.text


@pytest.mark.parametrize("texts", [["a", "b", "c", "d"], ["a", "b", "a", "b"]])
def test_nothing_to_test_is_an_error_that_counts_what_is_missing_and_these_suffice(texts):
    rows, _ = own_rows([("joy",), ("anger",), ("joy",), ("anger",)], texts)
    with refusal(ConfigError, "'joy' has 2 and lacks 1" if texts[2] == "c" else "'joy' has", "'anger' has"):
        split_rows(rows, "group")
    rows, _ = own_rows([("joy",), ("anger",)] * 2 + [("joy",)] * 3, [*texts, "x", "y", "z"])
    assert all(map(len, split_rows(rows, "group").values()))


def test_rows_without_a_label_have_a_stratum_of_their_own_and_are_drawn_like_a_label():
    rows, task = RARE["without a label"]
    assert task.multi_label and task.keep_unlabelled
    splits = split_rows(rows, "group")
    assert {name: int((part.targets.map(len) == 0).sum()) for name, part in splits.items()} == {
        "train": 21,
        "dev": 3,
        "test": 6,
    }
    drawn = sample_per_label(splits["train"], 5)
    assert (drawn.targets.map(len) == 0).sum() == 5 and len(drawn) == 20
    raters = load_corpus("goemotions-raw").frame.head(5).assign(labels=[(), ("joy",), (), ("fear",), ()])
    assert len(map_labels(raters, TASKS["ekman7"])) == 2  # the built-in tasks leave them out, as ever


# The split that a table has

SPLIT = ["train"] * 40 + ["test"] * 20
GIVEN = {
    "no dev": (own_rows(KINDS[:60], split=SPLIT), {"test": 20, "dev": 5}),
    "no test": (own_rows(KINDS[:60], split=["train"] * 40 + ["dev"] * 20), {"dev": 20, "test": 8}),
    "rows without a split": (own_rows(KINDS[:60], split=["train"] * 35 + [None] * 5 + ["test"] * 20), {"test": 20}),
    "a label that only test has": (own_rows([*KINDS[:59], ("rare",)], split=SPLIT), {"test": 19}),
    "texts on two sides": (own_rows(KINDS[:60], [f"s {i % 30}" for i in range(60)], split=SPLIT), {"test": 20}),
}


@pytest.mark.parametrize("case", GIVEN)
def test_the_split_of_a_table_is_kept_and_completed(case):
    (rows, task), sizes = GIVEN[case]
    for seed in range(20):
        splits = make_splits(rows, task, Config(task="custom", data="own", seed=seed))
        assert {name: len(splits[name]) for name in sizes} == sizes
        assert all(map(len, splits.values()))
        assert set(rows.split[splits["test"].index]) <= {"test"} or case == "no test"
        anew = make_splits(rows, task, Config(task="custom", data="own", seed=seed, split="group"))
        assert set(rows.split[anew["test"].index].dropna()) > {"test"} or case == "no test"


def test_a_split_that_has_no_training_rows_is_refused_and_split_anew():
    rows, task = own_rows(KINDS[:60], split=["dev"] * 40 + ["test"] * 20)
    config = Config(task="custom", data="own")
    with refusal(DataError, "train", "--split group"):
        make_splits(rows, task, config)
    assert all(map(len, make_splits(rows, task, replace(config, split="group")).values()))


# Training and dev rows only


@pytest.mark.parametrize("seed", range(20))
def test_rows_held_out_are_of_other_groups_and_have_each_label_that_train_can_spare(seed):
    dice = random.Random(seed)
    names = [f"label {i}" for i in range(dice.randint(2, 8))]
    labels = [tuple(dice.sample(names, dice.choice((1, 1, 1, 2)))) for _ in range(dice.randint(12, 60))]
    groups = [f"group {dice.randint(0, len(labels) // 2)}" for _ in labels]
    texts = [f"sentence {0 if seed % 2 and dice.random() < 0.1 else i}" for i in range(len(labels))]  # some recur
    rows, _ = own_rows(labels, texts, groups)
    parts = hold_out(rows, 0.2, seed)
    train, dev = parts["train"], parts["dev"]
    assert len(train) + len(dev) == len(rows) and labels_in(train) == labels_in(rows)
    assert not set(train.group) & set(dev.group) and not set(train.text) & set(dev.text)
    missing = set() if seed % 2 else labels_in(rows) - labels_in(dev)
    for group in train.group[train.targets.map(lambda row: bool(missing & set(row)))]:
        assert labels_in(train[train.group != group]) < labels_in(train)  # it has the last rows of some label
    again = hold_out(rows, 0.2, seed)
    assert all(parts[name].equals(again[name]) for name in parts)

"""Labels that were spoilt on purpose are the ones that are doubted."""

import sys
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest
from helpers import check_mistake, refusal
from test_train import OTHERS, WORDS

from emo_nb import ConfigError, EmotionClassifier, doubtful

RNG = np.random.default_rng(0)
LABELS = [list(WORDS)[i % 4] for i in range(160)]  # said by one of two words
TEXTS = [" ".join(RNG.permutation([*RNG.choice(OTHERS, 6), RNG.choice(WORDS[label][:2])])) for label in LABELS]
SPOILT = [3, 50, 77, 96, 121, 140]
NAMES = sorted(set(LABELS))
GIVEN = [NAMES[(NAMES.index(label) + 1) % 4] if i in SPOILT else label for i, label in enumerate(LABELS)]


@pytest.mark.parametrize("form", ["one label", "several labels"])
def test_spoilt_labels_come_first_with_what_they_should_be(form):
    several = form == "several labels"
    labels = [[label] for label in GIVEN] if several else GIVEN
    table = doubtful(TEXTS, labels, folds=2, classifier=EmotionClassifier("minilm", epochs=4))
    assert sorted(table.index) == list(range(160)) and list(table.text) == [TEXTS[i] for i in table.index]
    places = [list(table.index).index(i) for i in SPOILT]
    assert np.median(places) < 24  # by chance, 80
    first = table.head(16)
    spoilt = first.loc[[i for i in first.index if i in SPOILT]]
    if not several:
        assert (spoilt.suggested == [LABELS[i] for i in spoilt.index]).mean() > 0.7
        assert spoilt.is_issue.mean() > 0.5 and table.is_issue.mean() < 0.2
    assert list(table.quality) == sorted(table.quality) and list(spoilt.given) == [GIVEN[i] for i in spoilt.index]


def test_the_command_prints_the_first_rows_and_writes_all(emo, here):
    pd.DataFrame({"text": TEXTS, "label": GIVEN}).to_csv("own.csv", index=False)
    columns = ("--data", "own.csv", "--text-col", "text", "--label-col", "label")
    code, out, err = emo("doubt", *columns, "--folds", "2", "--epochs", "4", "--show", "5", "--out", "doubt.csv")
    assert code == 0, err
    table = pd.read_csv("doubt.csv")
    lines = table.row.str.removeprefix("own.csv:").astype(int) - 2  # below the header
    assert len(table) == 160 and lines[0] in SPOILT and TEXTS[lines[0]][:20] in " ".join(out.split())
    assert [TEXTS[line] for line in lines] == list(table.text)
    check_mistake(*emo("doubt", *columns, "--out", "doubt.csv")[::2], ["doubt.csv", "--force"])
    check_mistake(*emo("doubt", *columns, "--out", "doubt.xls")[::2], ["doubt.xls", ".parquet"])
    check_mistake(*emo("doubt", *columns, "--folds", "1")[::2], ["from 2 to", "not 1"])


def test_copies_of_a_text_are_predicted_by_one_model_also_where_there_are_groups(monkeypatch):
    seen = {}

    def look(estimator, examples, groups, folds):
        seen["groups"] = groups
        raise InterruptedError

    monkeypatch.setattr("emo_nb.study.doubt._predict_out_of_fold", look)
    with suppress(InterruptedError):
        doubtful([*TEXTS, *TEXTS[:3]], [*GIVEN, *GIVEN[:3]], groups=range(163))
    assert list(seen["groups"][:3]) == list(seen["groups"][160:]) and len(set(seen["groups"])) == len(set(TEXTS))


def test_what_cannot_be_is_said_before_any_training():
    texts = [f"text {i}" for i in range(8)]
    with refusal(ConfigError, "5 folds", "has 2"):
        doubtful(texts, list("aabbccdd"))
    for seed in (-1, None):
        with refusal(ConfigError, "random_state"):
            doubtful(texts, list("aabbccdd"), folds=2, classifier=EmotionClassifier("minilm", random_state=seed))


def test_where_cleanlab_is_missing_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    with refusal(ConfigError, "emo_nb[doubt]"):
        doubtful(TEXTS, GIVEN)


def test_rows_of_a_group_are_predicted_by_one_model_and_mistakes_are_said():
    with refusal(ConfigError, "number of groups, 2"):
        doubtful(TEXTS, GIVEN, groups=np.arange(160) % 2, folds=3)

"""Any string is a text: it has its row of probabilities, in the order given, the same in whatever company."""

import csv
import io
import json
import os
import random
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_foreign_models import small

from emo_nb.io.writers import unescape_formula
from emo_nb.predict import BULK_TEXTS, TrainedClassifier

MANY = int(os.environ.get("TEXTS", 150))  # random texts
ODD = {
    "empty": "",
    "line ends": "\n\r\n\t\v\f ",
    "more than a CSV field usually has": "help me " * 20_000,
    "lone surrogate": "so \udfff sad",
    "halves of an emoji": "\ud83d\ude00",
    "NUL": "I am\x00 so glad",
    "controls": "\x1b[31mred\x07\x7f\x85",
    "right to left": "אני כל כך שמח היום, شكرا جزيلا \u202e turned",
    "combining marks": "e" + "\u0301" * 500,
    "skin tones": "👍🏽👩🏿‍🚀👨🏻‍🤝‍👨🏾 I love it",
    "HTML": '<p class="x" onclick="y()">I &amp; you</p><script>alert(1)</script>',
    "other scripts": "große Klasse! 今天真是太高兴了 วันนี้ฉันมีความสุขมาก मैं बहुत खुश हूँ",
    "mixed line ends": "one\r\ntwo\rthree\nfour\u2028five\x85six",
    "byte order mark": "\ufeffhello",
    "nothing to see": "\ufffe\uffff\u200b\u200d\u2060" * 20,
    "the tokenizer's own words": "[CLS] [SEP] [PAD] [MASK] [UNK] [SEP]",
    "a formula": '=HYPERLINK("x")',
    "quotes": 'she said "no", and; left\tthen "',
    "a missing value's name": "NA",
    "an ordinary one": "Thank you so much, you saved my week",
}
TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-3, None: 1e-3}  # of a probability in other company
FORMATS = [".csv", ".jsonl", ".parquet"]


@pytest.fixture(scope="module")
def folders(tiny, feelings, tmp_path_factory):
    "One label a text, several labels a text, and a model that is no BERT."
    roberta = small(tmp_path_factory.mktemp("other") / "roberta", "roberta")
    return {"one label": tiny.folder, "several": feelings.folder, "roberta": roberta}


def check_probabilities(proba, classifier, texts):
    "A row a text, each of numbers from 0 to 1, which sum to one where a text has one label."
    assert proba.shape == (len(texts), len(classifier.labels))
    assert ((proba >= 0) & (proba <= 1)).all()
    if not classifier.multi_label:
        np.testing.assert_allclose(proba.sum(1), 1, atol=1e-9)


def check_company(first, second, most, texts):
    "No probability differs by more; the message shows the text."
    change = np.abs(first - second).max(1)
    worst = change.argmax()
    assert change[worst] <= most, f"{change[worst]:.1e} in text {worst}: {texts[worst][:80]!a}"


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", ["one label", "several", "roberta"])
def test_an_odd_text_has_its_row_of_probabilities_alone_and_in_company(folders, kind, dtype):
    classifier, texts = TrainedClassifier.from_pretrained(folders[kind], dtype=dtype), list(ODD.values())
    together = classifier.predict_proba(texts)
    check_probabilities(together, classifier, texts)
    alone = np.vstack([classifier.predict_proba(text) for text in texts])
    check_company(alone, together, TOLERANCE[dtype], texts)
    if dtype is None:
        exact = TrainedClassifier.from_pretrained(folders[kind], dtype="float32").predict_proba(texts)
        check_company(alone, exact, 1e-3, texts)
        bulk = classifier.for_bulk()
        rows = np.vstack([bulk.predict_proba(text) for text in texts])
        check_company(rows, bulk.predict_proba(texts), 1e-3, texts)


ALPHABETS = [
    "abcdefghijklmnopqrstuvwxyz      ", "ABC xyz 0123456789 !?.,;:'\"()[]{}", "ÀÉîõüßẞıİﬁǆ æø",
    "אבגדה שלום", "مرحبا بالعالم ", "你好世界今天天气", "こんにちは カタカナ", "привет мир", "ภาษาไทย ", "한국어 안녕",
    "e\u0300\u0301\u0302\u0308\u20e3 ", "😀👍🏽👩🏿‍🚀👨‍👩‍👧❤️🏳️‍🌈 ", "x\ud800\udfff\udc00", "a\x00\x01\x1b\x7f\ufffe\uffff", "ab\r\n\t\v\f\u2028\u2029\x85",
    "<b>&amp;</b>", "a\u200b\u200d\u202e\u2066\ufeff",
]  # fmt: skip
WORDS = ("so", "sad", "happy", "the", "I", "love", "it", "not", "[SEP]", "you", "cried", "all", "day", "😭", "why")


def random_text(dice):
    "Characters of one to three alphabets, or words; mostly few, seldom hundreds."
    size = int(dice.choice((0, 1, 2, 5, 10, 20, 20, 40, 40, 80, 150, 600)) * dice.uniform(0, 1.5))
    if dice.random() < 0.3:
        return " ".join(dice.choice(WORDS) for _ in range(size // 4))
    letters = "".join(dice.sample(ALPHABETS, dice.choice((1, 1, 2, 3))))
    return "".join(dice.choice(letters) for _ in range(size))


@pytest.mark.parametrize(("kind", "dtype"), [("one label", "float32"), ("several", "bfloat16"), ("one label", None)])
def test_random_texts_have_the_same_rows_in_two_different_companies(folders, kind, dtype, tried):
    dice, classifier = random.Random(7), TrainedClassifier.from_pretrained(folders[kind], dtype=dtype)
    texts = [random_text(dice) for _ in range(MANY)]
    parts = [texts[start : start + BULK_TEXTS] for start in range(0, MANY, BULK_TEXTS)]
    as_given = np.vstack([classifier.predict_proba(part, max_batch_tokens=900) for part in parts])
    check_probabilities(as_given, classifier, texts)
    shuffled, elsewhere, start = np.random.default_rng(7).permutation(MANY), np.empty_like(as_given), 0
    while start < MANY:
        rows = shuffled[start : start + dice.randint(1, 60)]
        elsewhere[rows] = classifier.predict_proba([texts[i] for i in rows])
        start += len(rows)
    check_company(elsewhere, as_given, TOLERANCE[dtype], texts)
    tried("random texts, each in two companies", MANY)


# Through the command

KEPT = [text for text in ODD.values() if not any("\ud800" <= character <= "\udfff" for character in text)]


def rows_in(form, content: bytes) -> list[str]:
    "The texts of predictions, by readers that are not ours; what guards against a spreadsheet is taken off."
    if form == ".parquet":
        return pd.read_parquet(io.BytesIO(content)).text.tolist()
    if form == ".jsonl":
        return [json.loads(line)["text"] for line in content.decode().split("\n") if line]
    csv.field_size_limit(2**31 - 1)
    return [unescape_formula(row["text"]) for row in csv.DictReader(io.StringIO(content.decode(), newline=""))]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("source", FORMATS)
def test_odd_texts_go_through_files_unchanged_and_in_order(emo, tiny, here, source, form):
    is_old = ".csv" in (source, form) and sys.version_info < (3, 11)  # whose csv module knows no NUL
    texts, table = [text for text in KEPT if not (is_old and "\x00" in text)], f"in{source}"
    if source == ".csv":
        with open(table, "w", newline="", encoding="utf-8") as out:
            csv.writer(out, quoting=csv.QUOTE_ALL).writerows([["text"], *([text] for text in texts)])
    elif source == ".jsonl":
        Path(table).write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    else:
        pd.DataFrame({"text": texts}).to_parquet(table)
    code, _, err = emo("predict", "--model", tiny.folder, "--file", table, "--out", f"out{form}")
    assert code == 0, err
    assert rows_in(form, Path(f"out{form}").read_bytes()) == texts


@pytest.mark.parametrize("form", FORMATS)
def test_half_a_character_in_json_is_replaced_and_a_whole_one_put_together(emo, tiny, here, form):
    (here / "in.jsonl").write_text('{"text": "so \\udfff sad"}\n{"text": "\\ud83d\\ude00"}\n{"text": "\\ud800"}\n')
    code, _, err = emo("predict", "--model", tiny.folder, "--file", "in.jsonl", "--out", f"out{form}")
    assert code == 0, err
    assert rows_in(form, (here / f"out{form}").read_bytes()) == ["so \ufffd sad", "😀", "\ufffd"]


@pytest.mark.parametrize("form", [".csv", ".parquet"])
def test_halves_of_characters_in_other_columns_are_replaced_too(emo, tiny, here, form):
    row = r'{"text": "so sad", "note": "cut \ud83d", "tags": ["\udc00"], "n\ud800": 1}'
    (here / "in.jsonl").write_text(row + "\n")
    code, _, err = emo("predict", "--model", tiny.folder, "--file", "in.jsonl", "--out", f"out{form}")
    assert code == 0, err
    kept = (pd.read_csv if form == ".csv" else pd.read_parquet)(here / f"out{form}").iloc[0]
    assert (kept["note"], kept["tags"], kept["n\ufffd"]) == ("cut \ufffd", '["\ufffd"]', 1)


def test_an_empty_text_has_a_row_where_the_tokenizer_adds_no_token_of_its_own(tmp_path):
    folder = small(tmp_path / "gpt2", "gpt2")
    classifier = TrainedClassifier.from_pretrained(folder)
    tokenizer = classifier.tokenizer
    tokenizer.backend_tokenizer.post_processor = None  # as that of GPT-2 and its kin, which adds nothing
    assert tokenizer("")["input_ids"] == []
    together = classifier.predict_proba(["", "I am so glad"])
    np.testing.assert_allclose(classifier.predict_proba(""), together[:1], atol=1e-5)


@pytest.mark.parametrize("form", ["table", "csv", "jsonl"])
def test_odd_texts_as_arguments_have_a_row_each(emo, tiny, form):
    texts = [text for text in KEPT if "\x00" not in text and len(text) < 10_000]  # what a shell can pass
    code, out, err = emo("predict", "--model", tiny.folder, "--format", form, "--", *texts, "not UTF-8: \udcff")
    assert code == 0, err
    if form == "table":
        assert len(out.splitlines()) == len(texts) + 1  # at every character that ends a line, which none may do
        assert "\x1b" not in out
    else:
        assert rows_in(f".{form}", out.encode()) == [*texts, "not UTF-8: \ufffd"]


@pytest.mark.parametrize("given", [(), ("--file", "in.txt")], ids=["pipe", "file"])
def test_lines_are_texts_whatever_ends_them(emo, tiny, here, given):
    texts = [text for text in KEPT if not set(text) & set("\r\n") and len(text) < 200_000]
    lines = "".join(text + ("\n", "\r\n", "\r")[i % 3] for i, text in enumerate(texts)).encode()
    (here / "in.txt").write_bytes(lines)
    code, out, err = emo("predict", "--model", tiny.folder, *given, "--format", "jsonl", stdin=lines)
    assert code == 0, err
    assert rows_in(".jsonl", out.encode()) == texts

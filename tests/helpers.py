"""What several test files share: a world without network or corpora, small data of known content, real runs in it."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
from filelock import FileLock

COMMAND = Path(sys.executable).with_name("emo-nb")
OFFLINE = {"EMO_NB_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}
os.environ.update(OFFLINE)  # huggingface_hub reads its own when it is first imported


def settle(patch, cache_dir: Path) -> None:
    "Leave only the built-in sample in this process and in those it starts."
    for name in [name for name in os.environ if name.startswith(("EMO_NB_", "COLAB_"))]:
        patch.delenv(name)
    for name, value in {**OFFLINE, "EMO_NB_CACHE": str(cache_dir)}.items():
        patch.setenv(name, value)


def python(code: str, *args, **options) -> str:
    "What a fresh interpreter prints for this code; its failure is the test's."
    done = subprocess.run([sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def plain(words: str) -> str:
    "Without colours and boxes, and with single spaces."
    return " ".join(re.sub(r"\x1b\[[\d;]*m|[│╭╮╰╯─]", " ", words).split())


def check_mistake(code: int, err: str, culprits: list[str]) -> None:
    "Exit code 2, and as the last line the only error, which names the culprits."
    assert code == 2
    lines = err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1, err
    assert lines[-1] == errors[0], "the error is the last line, and one line"
    assert "Traceback" not in err
    assert not [culprit for culprit in culprits if culprit not in errors[0]], errors[0]


def check_sentence(error: BaseException, *culprits: object) -> None:
    "One line that can be printed, of a length that people read, which names the culprits and no library's own words."
    words = str(error)
    assert "\n" not in words and 0 < len(words.encode(errors="replace")) < 600
    assert not re.search("pydantic|validation error|Exception|object at", words), words
    assert not [culprit for culprit in culprits if str(culprit) not in words], words


@contextmanager
def refusal(kind, *culprits: object) -> Iterator[None]:
    "The block raises such an error, in a sentence that names the culprits."
    with pytest.raises(kind) as caught:
        yield
    check_sentence(caught.value, *culprits)


def change_json(file: Path, **changes) -> None:
    "Other values for some keys of a JSON file; those that are None vanish."
    content = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({name: value for name, value in content.items() if changes.get(name, 0) is not None}))


def write_own(path: Path, labels: tuple[str, ...], each: int = 12) -> Path:
    "A table of the user's own with so many different texts of each label."
    rows = [f"sentence {i} says {label} in its own way,{label}" for label in labels for i in range(each)]
    path.write_text("text,label\n" + "\n".join(rows) + "\n")
    return path


def official_rows() -> dict[str, list[list[str]]]:
    "The sample's GoEmotions comments, three fifths in train, dealt to the official splits: text, label ids, comment id."
    from emo_nb.corpora import read_corpus
    from emo_nb.sources import SAMPLE_DIR
    from emo_nb.taxonomy import GOEMOTIONS

    ratings = read_corpus(SAMPLE_DIR / "goemotions_raw.csv").frame.explode("labels").dropna(subset="labels")
    comments = [
        [" ".join(rows.text.iloc[0].split()), sorted({GOEMOTIONS.index(label) for label in rows.labels}), group]
        for group, rows in ratings.groupby("group")
    ]
    dealt: dict[str, list[list[str]]] = {"train": [], "dev": [], "test": []}
    for i, (text, ids, group) in enumerate(sorted(comments, key=lambda comment: comment[1][0])):
        dealt[("train", "dev", "train", "test", "train")[i % 5]].append([text, ",".join(map(str, ids)), group])
    return dealt


def write_official(folder: Path, splits: dict[str, list[list[str]]]) -> Path:
    "These rows as GoEmotions' official files."
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in splits.items():
        (folder / f"{name}.tsv").write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    return folder


@cache
def tiny_run(basetemp: Path, **settings: str):
    "A real run of the preset `tiny`, of the built-in sample where no data are named; one for all workers and settings."
    from emo_nb.config import Config
    from emo_nb.report import open_run
    from emo_nb.run import run_experiment

    name = "-".join(["tiny", *(Path(value).name for value in settings.values())])
    out = basetemp / name / "run"
    config = Config.from_preset("tiny", out=str(out), show_progress_bar=False, **settings)
    with FileLock(basetemp / f"{name}.lock"), pytest.MonkeyPatch.context() as patch:
        settle(patch, basetemp / "no-cache")
        return open_run(out) if out.exists() else run_experiment(config)

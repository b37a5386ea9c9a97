"""What test_package, test_run and test_cli share: a world without network or corpora, and one real run in it."""

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

COMMAND = Path(sys.executable).with_name("emo-nb")
OFFLINE = {"EMO_NB_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}
os.environ.update(OFFLINE)  # the hub's library reads its own when it is first imported


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


def write_own(path: Path, labels: tuple[str, ...], each: int = 12) -> Path:
    "A table of the user's own with so many different texts of each label."
    rows = [f"sentence {i} says {label} in its own way,{label}" for label in labels for i in range(each)]
    path.write_text("text,label\n" + "\n".join(rows) + "\n")
    return path


@cache
def tiny_run(basetemp: Path):
    "A real run of the profile `tiny` on the built-in sample, one for each session (its `getbasetemp()`)."
    import pytest

    from emo_nb.run import Config, run

    place = basetemp / "tiny-run"
    with pytest.MonkeyPatch.context() as patch:
        settle(patch, place / "no-cache")
        return run(Config(profile="tiny", out=str(place / "runs" / "tiny"), progress=False), say=lambda line: None)

"""What several test files share: a world without the user's own folders, real runs, and the real corpora where they are."""

import io
import json
import os
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from helpers import official_rows, settle, tiny_run, write_official
from xdist.scheduler import LoadScopeScheduling

DATA = os.environ.get("EMO_NB_DATA")


# The files that take longest come first; the pages, which are dealt one by one, fill what is left
SLOW_FILES = (
    *("test_processes", "test_stream", "test_train", "test_model", "test_classifier", "test_resume", "test_export"),
    *("test_bench", "test_cli", "test_publish", "test_run", "test_site", "test_texts", "test_soft_targets"),
    *("test_doubt", "test_try_it", "test_sources", "test_own_table", "test_corpora", "test_fuzz", "test_ray"),
)


def pytest_collection_modifyitems(items):
    "Mark the tests that say how much they tried, which `make reliability` runs, and order the files."
    for item in items:
        if "tried" in item.fixturenames:
            item.add_marker("reliability")
    order = {name: i for i, name in enumerate(SLOW_FILES)} | {"test_pages": 2 * len(SLOW_FILES)}
    items.sort(key=lambda item: order.get(item.path.stem, len(SLOW_FILES)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Deal the pages to the workers one by one, and of any other file all tests to one worker.

    Each module's trainings are then made once. The marks of `--dist loadgroup` would say the same, but xdist 3.8 loses
    them under pytest 9.2.
    """
    return OneFileAWorker(config, log)


class OneFileAWorker(LoadScopeScheduling):
    "The scheduler of `--dist loadfile`, but for the pages."

    def _split_scope(self, nodeid):
        file = nodeid.split("::")[0]
        return nodeid if file.endswith("test_pages.py") else file


@pytest.fixture
def tried(request):
    "`tried(what, count)` says how much a test has tried, once nothing was lost; `make reliability` adds it up."

    def note(what: str, count: int) -> None:
        if file := os.environ.get("TRIED"):
            with open(file, "a") as lines:
                lines.write(json.dumps({"what": what, "tried": count, "test": request.node.nodeid}) + "\n")

    return note


@pytest.fixture
def alone(monkeypatch, tmp_path) -> Path:
    "No corpus but the built-in sample, no network, and a cache of the test's own, which is returned."
    settle(monkeypatch, tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def here(alone, monkeypatch, tmp_path) -> Path:
    "An empty working directory, and no corpus but the sample."
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def corpora_dir() -> Path:
    "The folder of the real corpora; the test is skipped where there is none."
    if not DATA:
        pytest.skip("EMO_NB_DATA is not set; it names the folder of the real corpora")
    folder = Path(DATA).resolve()
    samples = ("goemotions_raw_sample.csv", "go_emotions_dataset_sample.csv")
    wanted = ("empatheticdialogues.tar.gz", "goemotions/train.tsv", *samples)
    if missing := [name for name in wanted if not (folder / name).is_file()]:
        pytest.skip(f"EMO_NB_DATA holds no {', '.join(missing)}")
    return folder


@pytest.fixture(scope="session")
def basetemp(tmp_path_factory) -> Path:
    "The session's folder for temporary files, which all workers share."
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def tiny(basetemp):
    "A run of both corpora's samples: one label a text, LoRA."
    return tiny_run(basetemp)


@pytest.fixture(scope="session")
def official(basetemp) -> Path:
    "A folder with the sample as GoEmotions' official splits."
    folder = basetemp / "official"
    with FileLock(basetemp / "official.lock"):
        return folder if folder.exists() else write_official(folder, official_rows())


@pytest.fixture(scope="session")
def feelings(basetemp, official):
    "A run of the official splits: several labels a text, LoRA."
    return tiny_run(basetemp, task="sentiment4", data=str(official))


@pytest.fixture
def emo(monkeypatch, capsys):
    "The command in this process, which spares loading torch anew: its exit code, output and errors."
    from emo_nb.cli import main

    def call(*args, stdin=b""):
        monkeypatch.setenv("TQDM_DISABLE", "1")  # as the command sets it; what a later test starts is without it again
        monkeypatch.setattr(sys, "argv", ["emo-nb", *map(str, args)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        return code, *capsys.readouterr()

    return call

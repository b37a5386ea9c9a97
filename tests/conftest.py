"""What several test files share: a world without the user's own folders, and the real corpora where they are."""

import os
from pathlib import Path

import pytest

DATA = os.environ.get("EMO_NB_DATA")


@pytest.fixture
def alone(monkeypatch, tmp_path) -> Path:
    "No corpus but the built-in sample, no network, and a cache of the test's own, which is returned."
    for name in ("EMO_NB_DATA", "COLAB_RELEASE_TAG"):
        monkeypatch.delenv(name, raising=False)
    cache = tmp_path / "cache"
    monkeypatch.setenv("EMO_NB_CACHE", str(cache))
    monkeypatch.setenv("EMO_NB_OFFLINE", "1")
    return cache


@pytest.fixture(scope="session")
def corpora_dir() -> Path:
    "The folder of the real corpora; the test is skipped where there is none."
    if not DATA:
        pytest.skip("EMO_NB_DATA is not set; it names the folder of the real corpora")
    folder = Path(DATA).resolve()
    wanted = (
        "empatheticdialogues.tar.gz",
        "goemotions/train.tsv",
        "goemotions_raw_sample.csv",
        "go_emotions_dataset_sample.csv",
    )
    if missing := [name for name in wanted if not (folder / name).is_file()]:
        pytest.skip(f"EMO_NB_DATA holds no {', '.join(missing)}")
    return folder

"""No page shows a number that its file in results/ does not hold."""

import json
import os
import re
from pathlib import Path

import pandas as pd
import pytest
from execnb.shell import CaptureShell
from fastcore.nbio import read_nb

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "nbs/index.ipynb", *sorted((ROOT / "nbs/results").glob("2[1-9]_*.ipynb"))]
RESULTS = sorted(path for path in (ROOT / "results").glob("*.json") if path.stem != "published")
WORDS = ("text/html", "text/markdown", "text/plain")


def source(cell) -> str:
    return "".join(cell.source)


def said(outputs) -> list[str]:
    "What a cell's outputs say, as a browser shows it; pictures are drawn from the same numbers."
    shown = [
        next((data[kind] for kind in WORDS if kind in data), "") for data in (one.get("data", {}) for one in outputs)
    ]
    return ["".join(words) for words in shown if "<Figure" not in "".join(words)]


def numbers(value) -> list[float]:
    "All numbers in a JSON value."
    if isinstance(value, dict):
        return [number for one in value.values() for number in numbers(one)]
    if isinstance(value, list):
        return [number for one in value for number in numbers(one)]
    return [value] if isinstance(value, (int, float)) else []


def held(page) -> set[str]:
    "The numbers of the files that a page reads, as a page would write them."
    code = "\n".join(source(cell) for cell in read_nb(page).cells if cell.cell_type == "code")
    read = [file for file in RESULTS if f'"{file.stem}"' in code]
    found = [number for file in read for number in numbers(json.loads(file.read_text()))]
    return {f"{number:.{digits}f}" for number in found for digits in range(1, 5)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_run_again_shows_what_it_showed(page, monkeypatch):
    monkeypatch.chdir(page.parent)
    cells = [cell for cell in read_nb(page).cells if cell.cell_type == "code" and "#| cuda" not in source(cell)]
    shell = CaptureShell(page.parent)
    with pd.option_context("display.max_columns", 20, "display.max_colwidth", 50):  # as in a notebook, in any terminal
        for cell in cells:
            again = said(shell.run(source(cell)))
            if os.environ.get("EMO_NB_DATA") or "examples(" not in source(cell):  # examples are quoted from the corpora
                assert again == said(cell.outputs), source(cell)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_number_in_the_prose_of_a_page_stands_in_a_file_that_it_reads(page):
    prose = "\n".join(source(cell) for cell in read_nb(page).cells if cell.cell_type == "markdown")
    prose = re.sub(r"\]\([^)]*\)|`[^`]*`", "", prose)  # addresses and code
    assert not set(re.findall(r"\d+\.\d+", prose)) - held(page)


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.stem)
def test_a_result_says_where_it_came_from(file):
    record = json.loads(file.read_text())
    assert all(record[key] for key in ("command", "date", "versions", "hardware"))
    for run in runs(record):
        assert run["command"].startswith("emo-nb run") and run["seed"] >= 0
        assert all(len(sha256) == 64 for sha256 in run["files"].values())


def runs(value) -> list[dict]:
    "The runs that a result was made of."
    if isinstance(value, dict):
        return [value] if "train_seconds" in value else [run for one in value.values() for run in runs(one)]
    return [run for one in value for run in runs(one)] if isinstance(value, list) else []

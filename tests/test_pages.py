"""Every page runs from top to bottom in a fresh kernel and prints what is saved in it; its numbers come from results/."""

import json
import os
import re
from pathlib import Path

import nbformat
import pytest
from kernels import start_from_a_fork
from pages import all_pages, differences, needs_corpora, run_page

ROOT = Path(__file__).resolve().parent.parent
start_from_a_fork()
SLOW = (  # they come first, so that the workers end together
    *("32_command_line", "11_run", "45_teacher", "33_large_files", "31_own_table", "39_export", "35_fit", "08_train"),
    *("12_compare", "09_evaluate", "38_long_texts", "30_in_a_program", "04_explore", "10_predict", "05_prepare"),
)
PAGES = sorted(all_pages(), key=lambda page: SLOW.index(page.stem) if page.stem in SLOW else len(SLOW))
RESULT_PAGES = [ROOT / "nbs/index.ipynb", *sorted((ROOT / "nbs/results").glob("2[1-9]_*.ipynb"))]
RESULTS = sorted(path for path in (ROOT / "results").rglob("*.json") if path.stem != "published")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_prints_what_is_saved_in_it(page):
    if not os.environ.get("EMO_NB_DATA") and needs_corpora(page):
        pytest.skip("EMO_NB_DATA is not set, and the built-in sample lacks what the page shows")
    current = run_page(page)
    if os.environ.get("EMO_NB_DATA"):  # on the built-in sample, the numbers are others
        assert differences(nbformat.read(page, as_version=4), current) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_outputs_show_where_scripts_do_not_run(page):
    "As in GitHub's viewer, and on a page that was saved."
    cells = nbformat.read(page, as_version=4).cells
    assert not [cell.source for cell in cells if "<script" in str(cell.get("outputs"))]


NOT_MEASURED = {"0.95", "2.0", "4.0"}  # from which similarity two texts are near copies; licences


@pytest.mark.parametrize("page", RESULT_PAGES, ids=lambda page: page.stem)
def test_what_was_measured_stands_in_cells_that_read_files_and_not_in_prose(page):
    cells = nbformat.read(page, as_version=4).cells
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    prose = re.sub(r"\]\([^)]*\)|`[^`]*`", "", prose)  # addresses and code
    assert not set(re.findall(r"\d+\.\d+", prose)) - NOT_MEASURED


def runs(value) -> list[dict]:
    "The runs that a result was made of."
    if isinstance(value, dict):
        return [value] if "train_seconds" in value else [run for one in value.values() for run in runs(one)]
    return [run for one in value for run in runs(one)] if isinstance(value, list) else []


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.stem)
def test_a_result_says_where_it_came_from(file):
    record = json.loads(file.read_text())
    assert all(record[key] for key in ("command", "date", "versions", "hardware"))
    for run in runs(record):
        assert run["command"].startswith("emo-nb run") and run["seed"] >= 0
        assert all(len(sha256) == 64 for sha256 in run["files"].values())

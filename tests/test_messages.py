"""Every message of a mistake is read in the source: one kind of error, one sentence, and what to do."""

import ast
from pathlib import Path

import pytest

import emo_nb
from emo_nb import core

FAMILY = {name for name, kind in vars(core).items() if isinstance(kind, type) and issubclass(kind, core.EmoNbError)}
# `error` is a parameter: the caller's kind. The others are no user's mistake, or are caught in their own module.
OTHERS = {
    "error",
    "NotFittedError",
    "AttributeError",
    "ValueError",
    "KeyboardInterrupt",
    "SystemExit",
    "typer.Exit",
    "tarfile.ReadError",
    "MemoryError",
    "OSError",
}
SOURCES = [file for file in Path(emo_nb.__file__).parent.rglob("*.py") if file.stem != "_modidx"]


def rendered(node: ast.expr, constants: dict[str, str]) -> str:
    "A message as a reader sees it, as far as its source tells; what is only known later stands in braces."
    if isinstance(node, ast.JoinedStr):
        return "".join(rendered(part, constants) for part in node.values)
    if isinstance(node, ast.BinOp):
        return rendered(node.left, constants) + rendered(node.right, constants)
    if isinstance(node, ast.FormattedValue):
        return rendered(node.value, constants)
    return node.value if isinstance(node, ast.Constant) else constants.get(ast.unparse(node), "{}")


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: file.stem)
def test_an_error_is_of_the_family_and_one_sentence_that_ends_in_a_remedy(file):
    tree = ast.parse(file.read_text("utf-8"))
    assigned = [node for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)]
    constants = {ast.unparse(node.targets[0]): str(node.value.value) for node in assigned}
    for raised in (node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise)):
        if not isinstance(raised, ast.Call):
            continue  # an error that is raised again
        kind = ast.unparse(raised.func)
        assert kind in FAMILY | OTHERS, f"line {raised.lineno}"
        if kind in FAMILY:
            message = rendered(raised.args[0], constants)
            what, _, remedy = message.replace(": save", "; save").rpartition("; ")
            assert what and remedy and "\n" not in message and not message.endswith("."), message

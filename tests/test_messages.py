"""All that the package says of a mistake is read here: one kind of error, one sentence, and what to do."""

import ast
import re
from pathlib import Path

import pytest

from emo_nb.core import EmoNbError

PACKAGE = Path(__file__).resolve().parent.parent / "emo_nb"
TREES = {p.stem: ast.parse(p.read_text()) for p in sorted(PACKAGE.glob("*.py")) if p.stem != "_modidx"}
# What no user's mistake leads to: Python's own protocol, and ways out of the command line
ALLOWED = {"AttributeError", "KeyboardInterrupt", "SystemExit", "Exit"}
WITHIN = {"Broken", "ReadError"}  # caught in their own module, which puts their words into a sentence of its own
# What a sentence tells its reader to do, as the first word of a clause
VERBS = re.findall(
    r"\w+",
    """
    add begin choose convert correct do drop export fetch fill fit free get give go have install keep leave
    make map mend move name pass pip put read reinstall remove rename replace run save say score set split
    start try unpack unset update use wait write
    """,
)
STANDS_FOR = "some words"  # for what is only known when the message is made


def kinds() -> set[str]:
    "The names of the whole family."
    found, new = set(), [EmoNbError]
    while new:
        kind = new.pop()
        found.add(kind.__name__)
        new += kind.__subclasses__()
    return found


def constants(tree: ast.Module) -> dict[str, str]:
    "A module's constants that are strings."
    sides = [(node.targets[0], node.value) for node in tree.body if isinstance(node, ast.Assign)]
    return {name.id: words.value for name, words in sides if isinstance(name, ast.Name) and is_words(words)}


def is_words(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def rendered(node: ast.expr, known: dict[str, str]) -> str:
    "A message as a reader sees it, as far as its source tells."
    if is_words(node):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(rendered(part, known) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return rendered(node.value, known)
    if isinstance(node, ast.Name):
        return known.get(node.id, STANDS_FOR)
    return STANDS_FOR


def names_of(node: ast.expr) -> list[str]:
    "The classes that a raised expression may be of."
    if isinstance(node, ast.Call):
        return names_of(node.func)
    if isinstance(node, ast.Name) and node.id[0].islower():
        return []  # an error that is raised again
    if isinstance(node, ast.IfExp):
        return [*names_of(node.body), *names_of(node.orelse)]
    return [node.attr if isinstance(node, ast.Attribute) else node.id]


def parameters(tree: ast.Module) -> set[str]:
    "The names of parameters that are kinds of error, which the caller chooses."
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    every = [one for function in functions for one in function.args.args]
    return {one.arg for one in every if one.annotation and ast.unparse(one.annotation) == "type[EmoNbError]"}


IMPORTED = {name: words for tree in TREES.values() for name, words in constants(tree).items()}
RAISED = [
    (f"{module}:{node.lineno}", names_of(node.exc), node.exc, module)
    for module, tree in TREES.items()
    for node in ast.walk(tree)
    if isinstance(node, ast.Raise) and node.exc
]
MESSAGES = {
    place: rendered(error.args[0], {**IMPORTED, **constants(TREES[module])})
    for place, _, error, module in RAISED
    if isinstance(error, ast.Call)
    and error.args
    and "AttributeError" not in ast.unparse(error.func)
    and not set(names_of(error)) & (ALLOWED | WITHIN)
}
# Functions that end a sentence with what their caller says to do
REMEDIES = {
    f"{module}:{node.lineno}": rendered(node.args[-1], {**IMPORTED, **constants(TREES[module])})
    for module, tree in TREES.items()
    for node in ast.walk(tree)
    if isinstance(node, ast.Call)
    and getattr(node.func, "id", "") in ("json_object", "check_record", "check_frame")
    and ast.unparse(node.args[-1]) != "remedy"
}


def test_all_messages_are_read():
    assert len(MESSAGES) > 100 and len(REMEDIES) > 5


@pytest.mark.parametrize(("place", "found", "module"), [(place, found, module) for place, found, _, module in RAISED])
def test_what_is_raised_is_of_the_family(place, found, module):
    assert set(found) <= kinds() | ALLOWED | WITHIN | parameters(TREES[module])


def says_what_to_do(words: str) -> bool:
    "Does a clause begin with a verb that tells somebody to do something?"
    clauses = re.split(r"[;,:] (?:so |or |then )?", words)
    return any(clause.split()[0] in VERBS for clause in clauses if clause.split())


@pytest.mark.parametrize("place", MESSAGES)
def test_a_message_says_what_to_do(place):
    assert says_what_to_do(MESSAGES[place]) or "remedy" in source_of(place), MESSAGES[place]


@pytest.mark.parametrize("place", MESSAGES)
def test_a_message_is_one_short_sentence(place):
    words = MESSAGES[place]
    assert len(words) <= 200, words
    assert not words.endswith((".", "!", " ")) and ". " not in words and "\n" not in words, words
    assert words[0].islower() or words.startswith(STANDS_FOR) or re.match(r"[A-Z_]{4,} ", words), words


def source_of(place: str) -> str:
    "The source of what is raised there."
    return next(ast.unparse(error) for where, _, error, _ in RAISED if where == place)


@pytest.mark.parametrize("place", REMEDIES)
def test_a_remedy_says_what_to_do(place):
    assert says_what_to_do(REMEDIES[place]), REMEDIES[place]

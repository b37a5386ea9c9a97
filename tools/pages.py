"""Run notebooks in a fresh kernel and save what they print, or say where their saved outputs are no longer true.

python tools/pages.py nbs/feasibility/04_explore.ipynb …   run these pages and save their outputs (all where none is named)
python tools/pages.py --slow PAGE …                        the same, cells flagged `slow` included
python tools/pages.py --cuda PAGE …                        the same, cells flagged `cuda` included: where there is a GPU
python tools/pages.py --check [PAGE …]                     change nothing; exit 1 where an output differs

Cells flagged `slow`, `cuda` or `notest` are not run and keep their outputs. A cell with the line
`#| varies: true` prints numbers that depend on the machine, such as scores of a model trained on the page: its words are
compared, its numbers are not. Progress bars and warnings are never saved. Of a figure only its presence is compared,
for its pixels depend on fonts: after a change to `emo_nb/plots.py`, run the pages that draw.
"""

import argparse
import os
import re
import sys
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from kernels import start_from_a_fork
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent
SKIPPED = re.compile(r"^#\|\s*(slow|cuda|notest)\b", re.MULTILINE)
WITH_SLOW = re.compile(r"^#\|\s*(cuda|notest)\b", re.MULTILINE)  # what `--slow` still leaves out
WITH_CUDA = re.compile(r"^#\|\s*(slow|notest)\b", re.MULTILINE)  # and `--cuda`
CORPORA = re.compile(r"^#\|\s*corpora:\s*true", re.MULTILINE)  # the page asks for rows that the built-in sample lacks
VARIES = re.compile(r"^#\|\s*varies:\s*true", re.MULTILINE)
SHOWN = ("text/html", "text/markdown", "image/png", "text/plain")  # the first that an output has is compared


def all_pages() -> list[Path]:
    "Every notebook of the project, in the order of their paths."
    return sorted(path for path in (ROOT / "nbs").rglob("*.ipynb") if "checkpoint" not in str(path))


def needs_corpora(path: Path) -> bool:
    "Whether a page asks for rows that the built-in sample does not have."
    return any(CORPORA.search(cell.source) for cell in nbformat.read(path, as_version=4).cells)


def run_page(path: Path, skipped: re.Pattern[str] = SKIPPED) -> Any:
    "The notebook with the outputs that its cells give now. Raises `CellExecutionError` where one fails."
    notebook = nbformat.read(path, as_version=4)
    runnable = deepcopy(notebook)
    for cell in runnable.cells:
        if cell.cell_type == "code" and skipped.search(cell.source):
            cell.source = ""
    os.environ |= {"OMP_WAIT_POLICY": "passive", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"} | dict(os.environ)
    client = NotebookClient(
        runnable,
        timeout=900,
        startup_timeout=300,  # an environment that is new compiles its modules first
        kernel_name="python3",
        coalesce_streams=True,
        shutdown_kernel="immediate",  # a polite end takes a second and a half
        resources={"metadata": {"path": path.parent}},
    )
    with TemporaryDirectory(ignore_cleanup_errors=True) as scratch:  # an ended kernel clears nothing away
        client.execute(env=dict(os.environ) | {"TMPDIR": scratch})
    for cell, done in zip(notebook.cells, runnable.cells, strict=True):
        if cell.cell_type == "code" and not skipped.search(cell.source):
            cell.outputs = [clean for output in done.outputs if (clean := clean_output(output))]
            cell.execution_count = None
    return notebook


def clean_output(output: Any) -> Any:
    "An output as it is saved: without warnings, bars, widgets and counters; None where nothing is left."
    if output.output_type == "stream":
        return output if output.name == "stdout" else None
    data = {kind: value for kind, value in output.get("data", {}).items() if kind in SHOWN}
    if not data or "application/vnd.jupyter.widget-view+json" in output.data:
        return None
    clean = {"output_type": output.output_type, "data": data, "metadata": {}}
    return nbformat.from_dict(clean | ({"execution_count": None} if output.output_type == "execute_result" else {}))


def visible(output: Any, varies: bool) -> str:
    "What a reader sees of an output, as one string; a figure is seen as a figure."
    if output.output_type == "stream":
        text = output.text
    else:
        kind = next(kind for kind in SHOWN if kind in output.data)
        text = "(a figure)" if kind == "image/png" else output.data[kind]
    return re.sub(r"[ ─━]*-?\d[\d,.]*", "#", text) if varies else text


def differences(saved: Any, current: Any) -> list[str]:
    "One line for each cell whose saved outputs are not what it prints now."
    lines = []
    for number, (before, now) in enumerate(zip(saved.cells, current.cells, strict=True)):
        if before.cell_type != "code":
            continue
        varies = bool(VARIES.search(before.source))
        was, is_now = (["".join(visible(o, varies) for o in cell.outputs)] for cell in (before, now))
        if was != is_now:
            lines.append(f"cell {number} printed {was[0][:300]!r} and prints {is_now[0][:300]!r}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=Path, metavar="PAGE", help="notebooks; all where none is named")
    parser.add_argument("--check", action="store_true", help="compare, and change nothing")
    parser.add_argument("--slow", action="store_true", help="run cells flagged `slow` as well")
    parser.add_argument("--cuda", action="store_true", help="run cells flagged `cuda` as well")
    options = parser.parse_args()
    if options.slow and options.cuda:
        parser.error("--slow and --cuda are two ways to run a page; give one of them")
    if not os.environ.get("EMO_NB_DATA"):
        parser.error("EMO_NB_DATA is not set: the pages would show the built-in sample; name the folder of the corpora")
    start_from_a_fork()
    failed = False
    for page in options.pages or all_pages():
        print(f"{page} ...", flush=True)
        try:
            current = run_page(page, WITH_SLOW if options.slow else WITH_CUDA if options.cuda else SKIPPED)
        except CellExecutionError as error:
            print(error)
            failed = True
            continue
        if options.check:
            lines = differences(nbformat.read(page, as_version=4), current)
            print("".join(f"  {line}\n" for line in lines), end="")
            failed |= bool(lines)
        else:
            nbformat.write(current, page)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

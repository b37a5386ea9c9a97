"""Check that notebooks are clean, their saved outputs fit to be shown, and the package is what they export.

Formats, cleans and exports in place, as a developer would, and exits 1 where that changed anything.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What a saved output must not show: places, warnings, progress bars and object addresses of one machine at one time
UNFIT = re.compile(r"site-packages|Warning:|it/s\]|Traceback|(?<![\w.])/(?:tmp|root|home|Users)/|\b0x[0-9a-f]{8,}")


def fingerprints() -> dict[Path, str]:
    "The SHA-256 of every notebook and exported module."
    files = [p for p in (*ROOT.glob("nbs/**/*.ipynb"), *ROOT.glob("emo_nb/**/*.py")) if "checkpoint" not in str(p)]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def unfit_outputs(path: Path) -> list[str]:
    "What a notebook's saved outputs show that they should not."
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    outputs = [
        json.dumps({**o, "data": {**o.get("data", {}), "image/png": ""}}) for c in cells for o in c.get("outputs", [])
    ]
    return [f"{path.relative_to(ROOT)}: a saved output shows {hit[0]!r}" for o in outputs if (hit := UNFIT.search(o))]


def export() -> None:
    "Export every notebook; unlike the command `nbdev-export`, leave the docstring of the package as it is."
    from nbdev.doclinks import _build_modidx
    from nbdev.export import nb_export

    os.chdir(ROOT)  # nbdev looks for pyproject.toml from here
    for notebook in sorted((ROOT / "nbs").rglob("*.ipynb")):
        if "checkpoint" not in str(notebook):
            nb_export(notebook)
    _build_modidx()


def main() -> int:
    before = fingerprints()
    for step in (["ruff", "format", "--quiet", "nbs"], ["nbdev-clean"]):
        subprocess.run([str(Path(sys.executable).with_name(step[0])), *step[1:]], cwd=ROOT, check=True)
    export()
    after = fingerprints()
    changed = sorted(str(path.relative_to(ROOT)) for path in {*before, *after} if before.get(path) != after.get(path))
    unfit = [line for path in sorted(after) if path.suffix == ".ipynb" for line in unfit_outputs(path)]
    if changed:
        print("Not clean or not exported (now they are; look at the change and commit it):", *changed, sep="\n  ")
    if unfit:
        print("Run these notebooks again before they are shown:", *unfit, sep="\n  ")
    if not changed and not unfit:
        print(f"{len(after)} notebooks and modules: clean, formatted, and in step")
    return 1 if changed or unfit else 0


if __name__ == "__main__":
    sys.exit(main())

"""Check that the notebooks are clean and that the package is what they export.

Formats, cleans and exports in place, as a developer would, and exits 1 where that changed anything.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def fingerprints() -> dict[Path, str]:
    "The SHA-256 of every notebook and exported module."
    files = [p for p in (*ROOT.glob("nbs/**/*.ipynb"), *ROOT.glob("emo_nb/*.py")) if "checkpoint" not in str(p)]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


before = fingerprints()
for step in (["ruff", "format", "--quiet", "nbs"], ["nbdev_clean"], ["nbdev_export"]):
    subprocess.run([str(Path(sys.executable).with_name(step[0])), *step[1:]], cwd=ROOT, check=True)
after = fingerprints()
changed = sorted(str(path.relative_to(ROOT)) for path in {*before, *after} if before.get(path) != after.get(path))
if changed:
    print("Not clean or not exported (now they are; look at the change and commit it):", *changed, sep="\n  ")
    sys.exit(1)
print(f"{len(after)} notebooks and modules: clean, formatted, and in step")

"""Make results/reliability.json anew: what was tried against emo_nb, and that nothing was lost.

`python tools/reliability.py` runs the tests that are marked `reliability` in greater numbers than `make test` does.
A test counts what it tried only after it has found nothing lost; where one fails, no file is written.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from emo_nb.core import whole_file
from emo_nb.rundir import provenance, utc_now

ROOT = Path(__file__).resolve().parent.parent
NUMBERS = {"KILLS": "50", "FUZZ": "20000", "TEXTS": "10000"}


def main() -> None:
    started = utc_now()
    with tempfile.TemporaryDirectory() as name:
        counts = Path(name) / "tried.jsonl"
        env = {**NUMBERS, **os.environ, "TRIED": str(counts)}
        done = subprocess.run([sys.executable, "-m", "pytest", "-m", "reliability"], cwd=ROOT, env=env)
        if done.returncode:
            raise SystemExit(done.returncode)
        found = [json.loads(line) for line in counts.read_text().splitlines()]
    numbers = {name: env[name] for name in NUMBERS}
    record = {**provenance(started), "command": "make reliability", "numbers": numbers, "found": found}
    with whole_file(ROOT / "results" / "reliability.json") as beside:
        beside.write_text(json.dumps(record, indent=1) + "\n")
    for each in found:
        print(f"{each['tried']:>8,}  {each['what']}  ({each['test']})")


if __name__ == "__main__":
    main()

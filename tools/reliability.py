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

from emo_nb.io.files import atomic_file
from emo_nb.report import provenance, utc_now

ROOT = Path(__file__).resolve().parent.parent
NUMBERS = {"KILLS": "50", "FUZZ": "20000", "TEXTS": "10000"}


def main() -> None:
    "Run the tests, add up what they tried, and write results/reliability.json."
    started = utc_now()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "tried.jsonl"
        env = {**NUMBERS, **os.environ, "TRIED": str(log)}
        process = subprocess.run([sys.executable, "-m", "pytest", "-m", "reliability"], cwd=ROOT, env=env)
        if process.returncode:
            raise SystemExit(process.returncode)
        counts = [json.loads(line) for line in log.read_text().splitlines()]
    numbers = {name: env[name] for name in NUMBERS}
    record = {**provenance(started), "command": "make reliability", "numbers": numbers, "found": counts}
    with atomic_file(ROOT / "results" / "reliability.json") as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n")
    for count in counts:
        print(f"{count['tried']:>8,}  {count['what']}  ({count['test']})")


if __name__ == "__main__":
    main()

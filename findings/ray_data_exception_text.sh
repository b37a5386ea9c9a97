#!/usr/bin/env bash
# Ray Data: the message of an exception of one's own arrives with a sentence about retries in it.
#
# What a function given to `map_batches` raises reaches the program as a `RayTaskError` whose cause is that exception.
# Ray Data 2.60.0 adds words about its retries to the message of the cause itself and not around it. A program that
# shows such a message to people, or compares it, has to bring the words home in another way, for example as data.
#
# Seen: for `raise ValueError("row 7 is empty")`, the cause says "row 7 is empty Failed to apply UDF transform after 1/1
# attempts" and three more lines on how to configure them.
#
# The script fails where the message of the cause is what was raised.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q "ray[data]==2.60.0" pandas==2.3.3 pyarrow==26.0.1 numpy==2.2.6
"$folder/venv/bin/python" - <<'PY' >"$folder/log" 2>&1 || { cat "$folder/log"; exit 1; }
import ray


def check(batch):
    raise ValueError("row 7 is empty")


ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
ray.data.DataContext.get_current().enable_progress_bars = False
messages = []
try:
    ray.data.range(3).map_batches(check).take()
except Exception as error:
    while error is not None:
        if type(error) is ValueError:
            messages.append(str(error))
        error = getattr(error, "cause", None) or error.__cause__
assert messages and messages[-1].startswith("row 7 is empty") and messages[-1] != "row 7 is empty"
print(f"ray {ray.__version__}: {messages[-1][:60]!r}")
PY
tail -n 1 "$folder/log"

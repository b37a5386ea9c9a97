#!/usr/bin/env bash
# Ray Data: an exception of one's own is caught by its kind from a Ray task, and not from Ray Data.
#
# What a Ray task raises reaches the program as an error that is also of the kind that was raised, so that
# `except ValueError` catches it. What a function given to `map_batches` raises does not: Ray Data 2.60.0 raises a
# `UserCodeException`, no error in its chain of causes is of the kind that was raised, and its message continues with
# words about retries. A program that tells its own errors from others has to bring them home in another way, for
# example as data.
#
# Seen: a ValueError is caught by its kind from a task; from `map_batches` no ValueError is among the causes, and the
# message ends in "Failed to apply UDF transform after 1/1 attempts" and advice on how to change their number.
#
# The script fails where a ValueError is among the causes, or the words about retries are gone.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q "ray[data]==2.60.0" pandas==2.3.3 pyarrow==26.0.1 numpy==2.2.6
"$folder/venv/bin/python" - <<'PY' >"$folder/log" 2>&1 || { cat "$folder/log"; exit 1; }
import ray


def check(batch):
    raise ValueError("row 7 is empty")


def causes(work):
    "What some work raises, and what that was raised for."
    try:
        work()
    except Exception as error:
        found = []
        while error is not None and error not in found:
            found.append(error)
            error = getattr(error, "cause", None) or error.__cause__
        return found


ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
task = causes(lambda: ray.get(ray.remote(check).remote(None)))
data = causes(lambda: ray.data.range(3).map_batches(check).take())
assert isinstance(task[0], ValueError)
assert not any(isinstance(error, ValueError) for error in data)
assert "Failed to apply UDF transform after 1/1 attempts" in str(data[0])
print(f"ray {ray.__version__}: a ValueError from a task; {type(data[-1]).__name__}, and no ValueError, from Ray Data")
PY
tail -n 1 "$folder/log"

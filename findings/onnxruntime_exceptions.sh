#!/usr/bin/env bash
# ONNX Runtime: its errors have no class in common but Exception, and those named like Python's are not Python's.
#
# Whoever catches RuntimeError for memory that runs out, as with torch, or OSError for a file that is not there, catches
# none of ONNX Runtime 1.32.0's: `RuntimeException` is no RuntimeError, `NoSuchFile` no OSError, `NotImplemented` no
# NotImplementedError, and there is no base class of its own that all of them share.
#
# Seen: a model file that is not there raises NoSuchFile, which `except OSError` lets pass; of fifteen classes of errors,
# each derives directly from Exception.
#
# The script fails where a class of errors has another base than Exception.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q onnxruntime==1.32.0
cd "$folder"
"$folder/venv/bin/python" - <<'PY' >"$folder/log" 2>&1 || { cat "$folder/log"; exit 1; }
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as state

errors = [one for one in vars(state).values() if isinstance(one, type) and issubclass(one, Exception)]
assert len(errors) > 10 and {base for one in errors for base in one.__bases__} == {Exception}
try:
    onnxruntime.InferenceSession("nowhere.onnx")
except OSError:
    raise SystemExit("an OSError after all")
except Exception as error:
    kind = type(error).__name__
print(f"onnxruntime {onnxruntime.__version__}: {len(errors)} classes of errors, each a direct child of Exception; {kind} is no OSError")
PY
tail -n 1 "$folder/log"

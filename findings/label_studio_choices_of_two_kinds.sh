#!/usr/bin/env bash
# Label Studio: one labels column of an export holds names in some rows and objects in others.
#
# A project asks for emotions and lets annotators choose several. Its exports CSV and JSON_MIN have one column for the
# question. One would expect one kind of value in it, such as a list in every row. With the converter of label-studio-sdk
# 2.1.2 a row with one choice holds the bare name, and a row with several an object {"choices": [...]}, in CSV as JSON
# within the cell. Whoever looks at the first rows, or counts the values, takes each combination for a label of its own.
# A text that was annotated with no choice and one that nobody has annotated both have an empty cell in CSV; only the
# annotation's number tells them apart.
#
# Seen, for four texts with the choices joy, then joy and fear, then none, and one that was never annotated:
#   CSV       'joy', '{"choices":["joy","fear"]}', '', ''
#   JSON_MIN  'joy', {'choices': ['joy', 'fear']}, no key, no key
#
# The script fails where both rows with choices have values of one kind.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q label-studio-sdk==2.1.2
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import csv
import json
from importlib.metadata import version

from label_studio_sdk.converter import Converter

PROJECT = """<View><Text name="text" value="$text"/><Choices name="emotion" toName="text" choice="multiple">
<Choice value="joy"/><Choice value="fear"/><Choice value="anger"/></Choices></View>"""


def task(number, choices):
    "A text and, unless `choices` is None, what one annotator chose."
    result = [{"from_name": "emotion", "to_name": "text", "type": "choices", "value": {"choices": choices}}]
    about = {"id": 10 * number, "completed_by": {"email": "annotator@example.org"}, "was_cancelled": False, "lead_time": 2.5}
    when = {"created_at": "2026-01-01", "updated_at": "2026-01-01"}
    annotations = [] if choices is None else [about | when | {"result": result if choices else []}]
    return {"id": number, "data": {"text": f"text {number}"}, "annotations": annotations}


with open("tasks.json", "w") as stream:
    json.dump([task(1, ["joy"]), task(2, ["joy", "fear"]), task(3, []), task(4, None)], stream)
converter = Converter(PROJECT, project_dir=None)
converter.convert_to_csv("tasks.json", "as_csv", is_dir=False, sep=",")
converter.convert_to_json_min("tasks.json", "as_json", is_dir=False)
with open("as_csv/result.csv", newline="") as stream:
    rows = list(csv.DictReader(stream))
with open("as_json/result.json") as stream:
    objects = json.load(stream)
in_csv, in_json = [row["emotion"] for row in rows], [one.get("emotion") for one in objects]
print(f"label-studio-sdk {version('label-studio-sdk')}, CSV:", in_csv, [row["annotation_id"] for row in rows])
print("JSON_MIN:", in_json)
assert in_csv[0] == "joy" and json.loads(in_csv[1]) == {"choices": ["joy", "fear"]} and in_csv[2:] == ["", ""]
assert in_json[0] == "joy" and in_json[1] == {"choices": ["joy", "fear"]}
PY

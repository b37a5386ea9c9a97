"""The benchmark runs in its smallest setting and writes its files; how fast anything is, is not tested."""

import json
import subprocess
import sys
from pathlib import Path

from emo_nb.engine.device import machine_kind

BENCH = Path(__file__).resolve().parent.parent / "bench" / "bench.py"


def run(script, *args):
    return subprocess.run([sys.executable, script, *args], capture_output=True, text=True)


def test_the_smallest_setting_runs_and_every_way_gives_the_same_probabilities(official, here, monkeypatch):
    monkeypatch.setenv("EMO_NB_DATA", str(official))
    done = run(BENCH, "--smallest", "--out", "results", "predict")
    assert done.returncode == 0, done.stderr
    result = json.loads(Path("results", machine_kind(), "predict.json").read_text())
    ways = {way: values for way, values in result["found"]["64"].items() if way != "peak"}
    assert len(ways) == 7
    for way, values in ways.items():
        assert values["largest_change"][0] < (0.5 if "int8" in way else 0.05), way
        assert values["per_second"][0] > 0
        assert way in done.stdout
    assert {"torch", "onnxruntime", "openvino"} <= set(result["versions"])


def test_an_unknown_part_is_refused_in_one_sentence():
    done = run(BENCH, "speed")
    assert done.returncode == 2
    assert "there is no part speed; there is: train, tuning" in done.stderr

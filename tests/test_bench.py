"""The benchmark runs in its smallest setting and writes its files; how fast anything is, is not tested."""

import json
import subprocess
import sys
from pathlib import Path

from emo_nb.engine.device import machine_kind

BENCH = Path(__file__).resolve().parent.parent / "bench" / "bench.py"


def run(script, *args):
    return subprocess.run([sys.executable, script, *args], capture_output=True, text=True)


def test_the_smallest_setting_writes_its_files_and_every_way_gives_the_same_probabilities(official, here, monkeypatch):
    monkeypatch.setenv("EMO_NB_DATA", str(official))
    done = run(BENCH, "--smallest", "--out", "results", "predict", "latency", "train", "start")
    assert done.returncode == 0, done.stderr
    folder = Path("results", machine_kind())
    results = {file.stem: json.loads(file.read_text()) for file in folder.iterdir()}
    assert {part: len(only(result)) for part, result in results.items()} == {
        **{"predict": 7, "latency": 9, "train": 4, "start": 5}
    }
    for part, result in results.items():
        assert {"torch", "onnxruntime", "openvino"} <= set(result["versions"])
        for way, values in only(result).items():
            assert way in done.stdout
            assert all(value > 0 for name in ("seconds", "p50", "per_second") for value in values.get(name, [1]))
            if part in ("predict", "latency"):
                assert values["largest_change"][0] < (0.5 if "int8" in way else 0.05), way


def only(result):
    "What was measured of each way, of the only size."
    (ways,) = result["found"].values()
    return {way: values for way, values in ways.items() if way != "peak"}


def test_an_unknown_part_is_refused_in_one_sentence():
    done = run(BENCH, "speed")
    assert done.returncode == 2
    assert "there is no part speed; there is: train, tuning" in done.stderr

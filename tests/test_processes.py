"""Several processes train one model together, as `accelerate launch` starts them."""

import json
import os
import subprocess
from pathlib import Path

from helpers import COMMAND, OFFLINE

LAUNCH = ["launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]


def test_two_processes_score_as_one_does_within_the_intervals(tiny, here):
    accelerate = COMMAND.with_name("accelerate")
    args = [accelerate, *LAUNCH, "--dynamo_backend", "no", "-m", "emo_nb.run", "--profile", "tiny", "--out", "two"]
    world = {name: value for name, value in os.environ.items() if name != "EMO_NB_DATA"}
    done = subprocess.run(args, env=world | OFFLINE | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("The run directory: two") == 1
    assert [file.name for file in Path().iterdir()] == ["two"]
    config, found = (json.loads(Path("two", name).read_text()) for name in ("config.json", "metrics.json"))
    assert config["processes"] == 2
    low, high = tiny.metrics["all"]["intervals"]["macro_f1"]
    other_low, other_high = found["all"]["intervals"]["macro_f1"]
    assert low <= other_high
    assert other_low <= high
    assert len(Path("two/predictions.csv").read_text().splitlines()) == config["rows"]["test"] + 1


def test_more_processes_than_cores_are_refused(emo, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "999")
    code, _, err = emo("run", "--profile", "tiny")
    assert code == 2
    assert f"999 processes were started on {os.cpu_count()} cores" in err

"""Several processes train one model together, as `accelerate launch` starts them."""

import json
import os
import subprocess
from pathlib import Path

from helpers import COMMAND, OFFLINE

LAUNCH = ("launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no")
RUN = ("-m", "emo_nb", "run", "--preset", "tiny", "--out", "two")


def test_two_processes_end_well_and_score_as_one_does_within_the_intervals(tiny, here):
    args = [COMMAND.with_name("accelerate"), *LAUNCH, "--dynamo_backend", "no", *RUN]
    environment = os.environ | OFFLINE | {"OMP_NUM_THREADS": "1"}
    launched = subprocess.run(args, env=environment, capture_output=True, text=True)
    assert launched.returncode == 0, launched.stderr  # the launcher's is that of the first process that fails
    assert launched.stdout.count("The run directory: two") == 1
    assert launched.stdout.count("testing on") == 1
    assert [file.name for file in Path().iterdir()] == ["two"]
    record, metrics = (json.loads(Path("two", name).read_text()) for name in ("config.json", "metrics.json"))
    assert record["processes"] == 2
    assert record["command"] == "emo-nb run --preset tiny --out two"
    low, high = tiny.metrics["all"]["intervals"]["macro_f1"]
    other_low, other_high = metrics["all"]["intervals"]["macro_f1"]
    assert low <= other_high and other_low <= high
    assert len(Path("two/predictions.csv").read_text().splitlines()) == record["rows"]["test"] + 1


def test_more_processes_than_cores_are_refused(emo, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "999")
    code, _, err = emo("run", "--preset", "tiny")
    assert code == 2
    assert f"999 processes were started on {os.cpu_count()} cores" in err

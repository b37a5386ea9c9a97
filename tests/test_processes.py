"""Several processes: a model is trained together, as `accelerate launch` starts them, and asked in forked ones."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import COMMAND, OFFLINE, python
from test_foreign_models import sharded, small

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


# One process loads, as a web server does, and its children answer

FORKED = """
import multiprocessing, os, sys
import numpy as np
from emo_nb import EmotionClassifier
classifier = EmotionClassifier.from_pretrained(sys.argv[1])
asked = [["so it goes"], ["well, it was a long day " * 9] * 4, ["oh no"] * 1001]  # few, some, many texts
if sys.argv[2] == "predicted":
    [classifier.predict_frame(texts) for texts in asked]
for texts in asked:
    child = os.fork()
    if not child:
        classifier.predict_frame(texts)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
with multiprocessing.get_context("fork").Pool(2) as pool:
    answers = pool.map(classifier.predict_proba, asked)
for texts, answer in zip(asked, answers):
    np.testing.assert_allclose(answer, classifier.predict_proba(texts), atol=1e-5)
"""


@pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="processes are forked in Linux's way")
@pytest.mark.parametrize(
    ("kind", "before"),
    [
        ("trained", "loaded"),
        ("trained", "predicted"),
        ("in shards", "loaded"),
        ("roberta", "predicted"),
    ],
)
def test_a_child_that_is_forked_after_loading_answers(tiny, tmp_path, kind, before):
    folder = tiny.folder if kind == "trained" else small(tmp_path / "model", "bert" if kind == "in shards" else kind)
    if kind == "in shards":
        sharded(folder)
    python(
        FORKED, folder, before, env={**os.environ, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}, timeout=200
    )

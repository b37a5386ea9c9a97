"""Several processes: a model is trained together, as `accelerate launch` starts them, and asked in forked ones."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from helpers import COMMAND, OFFLINE, python
from test_foreign_models import sharded, small

LAUNCH = ("launch", "--multi_gpu", "--num_processes", "2", "--mixed_precision", "no")


def launch(*args, host=()):
    "A training of two processes, begun: of all of them, or of those of one host."
    command = [*host, COMMAND.with_name("accelerate"), *LAUNCH, *args, "--dynamo_backend", "no"]
    command += ["-m", "emo_nb", "run", "--preset", "tiny", "--epochs", "2", "--out", "two"]
    environment = os.environ | OFFLINE | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "emo" if host else "lo"}
    environment.pop("EMO_NB_DATA", None)  # the built-in sample is enough
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(list(map(str, command)), env=environment, **streams)


def scores(folder):
    return json.loads(Path(folder, "metrics.json").read_text())


@pytest.fixture(scope="module")
def together(basetemp):
    "The run directory of two processes of one machine, and what they printed."
    out = basetemp / "together" / "two"
    out.parent.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(out.parent)
        with launch("--num_machines", 1) as process:
            printed, err = process.communicate()
    assert process.returncode == 0, err  # the launcher's is that of the first process that fails
    return out, printed


def test_two_processes_end_well_and_score_as_one_does_within_the_intervals(tiny, together):
    folder, printed = together
    assert printed.count("The run directory: two") == 1
    assert printed.count("testing on") == 1
    assert [file.name for file in folder.parent.iterdir()] == ["two"]
    record, metrics = json.loads((folder / "config.json").read_text()), scores(folder)
    assert record["processes"] == 2
    assert record["command"] == "emo-nb run --preset tiny --epochs 2 --out two"
    low, high = tiny.metrics["all"]["intervals"]["macro_f1"]
    other_low, other_high = metrics["all"]["intervals"]["macro_f1"]
    assert low <= other_high and other_low <= high
    assert len((folder / "predictions.csv").read_text().splitlines()) == record["rows"]["test"] + 1


# Two hosts: network namespaces of this machine, joined by a virtual cable


def ip(*args):
    return subprocess.run(["ip", *map(str, args)], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def hosts():
    "The commands that run another one on either of two hosts, 10.77.0.1 and 10.77.0.2."
    names = [f"emo-{os.getpid()}-{number}" for number in (1, 2)]
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "emo", "netns", names[0], "type", "veth", "peer", "name", "emo", "netns", names[1])
        for number, name in enumerate(names, 1):
            ip("-n", name, "address", "add", f"10.77.0.{number}/24", "dev", "emo")
            for device in ("lo", "emo"):
                ip("-n", name, "link", "set", device, "up")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces can be made here ({error})")
    yield names
    for name in names:
        stop(name)
        ip("netns", "delete", name)


def stop(host):
    "Kill all that runs on a host."
    for process in ip("netns", "pids", host).split():
        with suppress(ProcessLookupError):
            os.kill(int(process), signal.SIGKILL)


def on_both(hosts):
    "A training begun on both hosts."
    shared = ("--num_machines", 2, "--main_process_ip", "10.77.0.1", "--main_process_port", 29571)
    places = [("ip", "netns", "exec", host) for host in hosts]
    return [launch(*shared, "--machine_rank", rank, host=place) for rank, place in enumerate(places)]


@pytest.mark.cluster
def test_two_hosts_train_as_two_processes_do_and_where_one_dies_the_other_ends_and_both_go_on(together, here, hosts):
    first, second = on_both(hosts)
    while not list(Path().glob("two.part/checkpoint-*/whole")):
        assert first.poll() is None, first.stderr.read()
        time.sleep(0.05)
    ip("-n", hosts[0], "link", "set", "emo", "down")  # so that nobody hears of its end
    stop(hosts[0])
    first.communicate()
    died = time.monotonic()
    _, err = second.communicate(timeout=120)
    assert time.monotonic() - died < 60
    assert second.returncode != 0
    assert len(re.findall("^error: another process of this training has ended .* last checkpoint$", err, re.M)) == 1
    ip("-n", hosts[0], "link", "set", "emo", "up")
    first, second = on_both(hosts)
    out, err = first.communicate()
    assert first.returncode == 0, err
    assert second.wait() == 0
    assert "resuming an interrupted run from checkpoint-" in out
    assert scores("two") == scores(together[0])


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


FORKED_TRAINING = """
import os, sys
from emo_nb import EmotionClassifier
EmotionClassifier.from_pretrained(sys.argv[1]).predict_proba(["well, it was a long day " * 9] * 64)
child = os.fork()
if not child:
    texts, labels = [f"so it goes {i}" for i in range(24)], ["joy", "fear"] * 12
    EmotionClassifier("minilm", epochs=1).fit(texts, labels)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="processes are forked in Linux's way")
def test_a_child_that_is_forked_after_a_prediction_trains(tiny):
    env = {**os.environ, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}
    python(FORKED_TRAINING, tiny.folder, env=env, timeout=200)

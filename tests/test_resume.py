"""A training that is stopped, however it is stopped, resumes with the same command and ends as if nothing had been."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from helpers import settle

KILLS = int(os.environ.get("KILLS", 4))

FORKS = """
import json, os, signal, sys
from dataclasses import replace
import matplotlib.figure, peft, scipy.optimize, sklearn.metrics, torch, transformers.trainer
import emo_nb.run
from emo_nb.cli import main
from emo_nb.config import PRESETS
tiny = PRESETS["tiny"]
few = dict(train_rows_per_label=6, dev_rows_per_label=3, test_rows_per_label=3)
PRESETS["tiny"] = replace(tiny, **few, train=replace(tiny.train, epochs=2, batch_size=16, save_steps=2))
print("ready", flush=True)
for line in sys.stdin:
    given = json.loads(line)
    child = os.fork()
    if child == 0:
        os.chdir(given["folder"])
        out = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1), os.dup2(out, 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        exec(given["first"])
        sys.argv[1:] = ["run", "--preset", "tiny", "--out", "run"]
        try:
            main()
        except SystemExit as end:
            os._exit(end.code or 0)
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""  # each run is a process of its own, which need not import torch anew; small steps, a checkpoint every other one

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


class Command:
    "`emo-nb run` in a process of its own, which works in the current directory."

    def __init__(self, forks, first=""):
        self.forks, self.log = forks, Path("log.txt").absolute()
        self.log.unlink(missing_ok=True)
        forks.stdin.write(json.dumps({"folder": str(Path.cwd()), "first": first}) + "\n")
        forks.stdin.flush()
        self.process = int(forks.stdout.readline())

    def wait_for(self, moment):
        "Wait until the moment has come, or the process has ended."
        while not moment() and os.path.exists(f"/proc/{self.process}"):
            time.sleep(0.002)

    def kill(self, how=signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.kill(self.process, how)

    def ended(self):
        "Its exit code, and all it said."
        return int(self.forks.stdout.readline()), self.log.read_text()


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    "What starts runs, with no corpus but the sample."
    with pytest.MonkeyPatch.context() as patch:
        settle(patch, tmp_path_factory.mktemp("no-cache"))
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        process = subprocess.Popen([sys.executable, "-c", FORKS], **pipes)
    with process:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.stdin.close()


@pytest.fixture(scope="module")
def undisturbed(forks, tmp_path_factory):
    "The run that nobody disturbs."
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("undisturbed"))
        code, log = Command(forks).ended()
        assert code == 0, log
        return Path("run").absolute()


def complete(folder):
    "The steps whose checkpoints are complete, and 0."
    return {0} | {int(file.parent.name.split("-")[1]) for file in folder.glob("checkpoint-*/whole")}


def is_writing(folder):
    "Whether a checkpoint is being written."
    return any(not (path / "whole").exists() for path in folder.glob("checkpoint-*"))


def check_same(run, undisturbed):
    "Both learnt the same, and took the same way there."
    one, other = (
        hashlib.sha256((folder / "model" / "model.safetensors").read_bytes()).hexdigest()
        for folder in (run, undisturbed)
    )
    assert one == other
    pd.testing.assert_frame_equal(*(pd.read_csv(folder / "history.csv") for folder in (run, undisturbed)))


def check_resumes(forks, undisturbed, checkpoint):
    "The same command again resumes from this checkpoint, and ends as the run that nobody disturbed."
    code, log = Command(forks).ended()
    assert code == 0, log
    assert not checkpoint or f"resuming an interrupted run from checkpoint-{checkpoint}" in log
    check_same(Path("run"), undisturbed)
    assert {path.name for path in Path().iterdir()} == {"run", "log.txt"}


def test_a_training_killed_at_random_moments_ends_with_the_same_weights(forks, undisturbed, here, tried):
    part, chance, within = here / "run.part", random.Random(0), 0
    for kill in range(KILLS):
        before, command = max(complete(part)), Command(forks)
        command.wait_for(lambda command=command: command.log.exists() and "trained" in command.log.read_text())
        if kill % 2:  # each second time, a while after the next checkpoint is begun
            command.wait_for(lambda: is_writing(part))
        time.sleep(chance.uniform(0, 0.05 if kill % 2 else 2))
        command.kill()
        code, log = command.ended()
        assert code in (0, -signal.SIGKILL), log
        if (here / "run").exists():  # it was done before the moment came
            check_same(here / "run", undisturbed)
            shutil.rmtree(here / "run")
        else:
            assert max(complete(part)) >= before
            within += is_writing(part)
    check_resumes(forks, undisturbed, max(complete(part)))
    assert within > 1 or KILLS < 20
    tried("kills of a training", KILLS)
    tried("kills within the writing of a checkpoint (of those)", within)


def test_ctrl_c_saves_and_says_how_to_resume_and_the_same_is_learnt(forks, undisturbed, here, tried):
    command = Command(forks)
    command.wait_for(lambda: max(complete(here / "run.part")) >= 4)
    command.kill(signal.SIGINT)
    code, log = command.ended()
    reached = max(complete(here / "run.part"))
    assert code == 130
    assert "Traceback" not in log
    last = f"interrupted; all is saved in checkpoint-{reached}; give the same command again, and it continues from its"
    assert log.splitlines()[-1].startswith(last)
    check_resumes(forks, undisturbed, reached)
    tried("Ctrl-C in a training", 1)


FILLS_UP = """
import resource
from emo_nb.engine.callbacks import checkpoints_callback as plain
def checkpoints_callback(*given):
    callback = plain(*given)
    before = callback.on_step_end
    def on_step_end(args, state, control, **others):
        if state.global_step == 6:
            resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        return before(args, state, control, **others)
    callback.on_step_end = on_step_end
    return callback
emo_nb.train.checkpoints_callback = checkpoints_callback
"""  # from then on the system refuses files as long as a checkpoint's


def test_a_disk_that_fills_up_leaves_the_last_checkpoint_and_one_sentence(forks, undisturbed, here, tried):
    code, log = Command(forks, first=FILLS_UP).ended()
    assert code == 2
    assert "Traceback" not in log
    assert "run.part cannot be written because the disk is full" in log.splitlines()[-1]
    assert "free some space, then give the same command again" in log.splitlines()[-1]
    assert 4 in complete(here / "run.part")
    check_resumes(forks, undisturbed, 4)
    tried("a disk that fills up in a checkpoint", 1)


def test_two_runs_never_share_a_directory_nor_settings(forks, undisturbed, emo, here, tried):
    first = Command(forks)
    first.wait_for(lambda: max(complete(here / "run.part")) >= 4)
    first.kill(signal.SIGSTOP)
    for force in ([], ["--force"]):
        code, _, err = emo("run", "--preset", "tiny", "--out", "run", *force)
        assert code == 2
        assert "another process is at work in" in err.splitlines()[-1]
    first.kill()
    first.kill(signal.SIGCONT)
    first.ended()
    there = sorted(Path("run.part").rglob("*"))
    code, _, err = emo("run", "--preset", "tiny", "--out", "run", "--seed", "7", "--method", "finetune")
    assert code == 2
    assert "another seed (42 there, 7 here)" in err and "another method (lora there, finetune here)" in err
    assert sorted(Path("run.part").rglob("*")) == there
    check_resumes(forks, undisturbed, max(complete(here / "run.part")))
    tried("two runs at once into one directory", 2)

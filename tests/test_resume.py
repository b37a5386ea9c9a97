"""A training that is stopped, however it is stopped, goes on with the same command and ends as if nothing had been."""

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

KILLS = int(os.environ.get("KILLS", 20))

FORKS = """
import json, os, signal, sys
from dataclasses import replace
import peft, torch, transformers
import emo_nb.run
from emo_nb.cli import main
from emo_nb.config import METHODS, PROFILES
for settings in METHODS.values():
    settings["save_steps"] = 2
PROFILES["tiny"] = replace(PROFILES["tiny"], epochs=2)
print("ready", flush=True)
for line in sys.stdin:
    given = json.loads(line)
    child = os.fork()
    if child == 0:
        out = os.open(given["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1), os.dup2(out, 2)
        os.chdir(given["folder"])
        signal.signal(signal.SIGINT, signal.default_int_handler)
        exec(given["first"])
        sys.argv[1:] = ["run", "--profile", "tiny", *given["args"]]
        try:
            main()
        except SystemExit as end:
            os._exit(end.code or 0)
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""  # each run is a process of its own, which need not import torch anew; two epochs, a checkpoint each other step

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


class Command:
    "`emo-nb run` in a process of its own."

    def __init__(self, forks, *args, first=""):
        self.forks, self.log = forks, Path("log.txt").absolute()
        self.log.unlink(missing_ok=True)
        given = {"args": args, "log": str(self.log), "folder": str(Path.cwd()), "first": first}
        forks.stdin.write(json.dumps(given) + "\n")
        forks.stdin.flush()
        self.process = int(forks.stdout.readline())

    def ended(self):
        "Its exit code, and all it said."
        return int(self.forks.stdout.readline()), self.log.read_text()


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    "What starts runs, with no corpus but the sample."
    with pytest.MonkeyPatch.context() as patch:
        settle(patch, tmp_path_factory.mktemp("no-cache"))
        process = subprocess.Popen(
            [sys.executable, "-c", FORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    with process:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.stdin.close()


@pytest.fixture(scope="module")
def undisturbed(forks, tmp_path_factory):
    "The run that nobody disturbs."
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("undisturbed"))
        assert Command(forks, "--out", "run").ended()[0] == 0
        return Path("run").absolute()


def stopped(command, moment, how=signal.SIGKILL):
    "Send a signal as soon as the moment has come; what the command ended with."
    while not moment() and os.path.exists(f"/proc/{command.process}"):
        time.sleep(0.002)
    with suppress(ProcessLookupError):
        os.kill(command.process, how)
    return command.ended()


def weights(folder):
    "What was learnt, as a hash."
    return hashlib.sha256((folder / "model" / "model.safetensors").read_bytes()).hexdigest()


def whole(folder):
    "The steps whose checkpoints are whole."
    return {int(file.parent.name.split("-")[1]) for file in folder.glob("checkpoint-*/whole")}


def torn(folder):
    "Checkpoints that are being written."
    return [path for path in folder.glob("checkpoint-*") if not (path / "whole").exists()]


def same(run, undisturbed):
    "Did both learn the same, and take the same way there?"
    assert weights(run) == weights(undisturbed)
    pd.testing.assert_frame_equal(*(pd.read_csv(folder / "history.csv") for folder in (run, undisturbed)))


def test_a_training_killed_at_random_moments_ends_with_the_same_weights(forks, undisturbed, here, tried):
    part, chance, within = here / "run.part", random.Random(0), 0
    for kill in range(KILLS):
        wait, since = chance.uniform(0, 0.05 if kill % 2 else 2), []
        before = max(whole(part), default=0)

        def moment(kill=kill, wait=wait, since=since):
            "A while after training began; each second time, a while after the next checkpoint was begun."
            begun = (here / "log.txt").exists() and "trained" in (here / "log.txt").read_text()
            if begun and not since and (torn(part) or not kill % 2):
                since.append(time.monotonic())
            return since and time.monotonic() - since[0] >= wait

        code, said = stopped(Command(forks, "--out", "run"), moment)
        assert code in (0, -signal.SIGKILL), said
        if (here / "run").exists():  # it was done before the moment came
            same(here / "run", undisturbed)
            shutil.rmtree(here / "run")
        else:
            assert max(whole(part), default=0) >= before
            within += bool(torn(part))
    reached = max(whole(part), default=0)
    code, said = Command(forks, "--out", "run").ended()
    assert code == 0, said
    assert not reached or f"going on where an interrupted run stopped, from checkpoint-{reached}" in said
    same(here / "run", undisturbed)
    assert within > 1 or KILLS < 20
    assert {path.name for path in here.iterdir()} == {"run", "log.txt"}
    tried("kills of a training", KILLS)
    tried("kills within the writing of a checkpoint (of those)", within)


def test_ctrl_c_saves_and_says_how_to_go_on_and_the_same_is_learnt(forks, undisturbed, here, tried):
    code, said = stopped(
        Command(forks, "--out", "run"), lambda: max(whole(here / "run.part"), default=0) >= 4, signal.SIGINT
    )
    reached = max(whole(here / "run.part"))
    assert code == 130
    assert "Traceback" not in said
    last = f"interrupted; all is saved in checkpoint-{reached}; give the same command again, and it goes on from its"
    assert said.splitlines()[-1].startswith(last)
    code, said = Command(forks, "--out", "run").ended()
    assert code == 0, said
    assert f"from checkpoint-{reached}" in said
    same(here / "run", undisturbed)
    tried("Ctrl-C in a training", 1)


FILLS_UP = """
import resource
from emo_nb.callbacks import checkpoints_callback as plain
def checkpoints_callback(*given):
    made = plain(*given)
    before = made.on_step_end
    def on_step_end(args, state, control, **others):
        if state.global_step == 6:
            resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        return before(args, state, control, **others)
    made.on_step_end = on_step_end
    return made
emo_nb.train.checkpoints_callback = checkpoints_callback
"""  # from then on the system refuses files as long as a checkpoint's


def test_a_disk_that_fills_up_leaves_the_last_checkpoint_and_one_sentence(forks, undisturbed, here, tried):
    code, said = Command(forks, "--out", "run", first=FILLS_UP).ended()
    assert code == 2
    assert "Traceback" not in said
    assert "run.part cannot be written, for the disk is full" in said.splitlines()[-1]
    assert "free some space, then give the same command again" in said.splitlines()[-1]
    assert 4 in whole(here / "run.part")
    code, said = Command(forks, "--out", "run").ended()
    assert code == 0, said
    assert "from checkpoint-4" in said
    same(here / "run", undisturbed)
    tried("a disk that fills up in a checkpoint", 1)


def test_two_runs_never_share_a_directory(forks, undisturbed, emo, here, tried):
    first = Command(forks, "--out", "run")
    while not whole(here / "run.part") and os.path.exists(f"/proc/{first.process}"):
        time.sleep(0.002)
    os.kill(first.process, signal.SIGSTOP)
    for force in ([], ["--force"]):
        code, _, err = emo("run", "--profile", "tiny", "--out", "run", *force)
        assert code == 2
        assert "another process is at work in" in err.splitlines()[-1]
    os.kill(first.process, signal.SIGCONT)
    assert first.ended()[0] == 0
    same(here / "run", undisturbed)  # which is also: the same seed, the same weights
    tried("two runs at once into one directory", 2)


def test_going_on_with_other_settings_is_refused_and_names_them(forks, emo, here):
    stopped(Command(forks, "--out", "run"), lambda: max(whole(here / "run.part"), default=0) >= 4)
    there = sorted(Path("run.part").rglob("*"))
    code, _, err = emo("run", "--profile", "tiny", "--out", "run", "--seed", "7", "--method", "full")
    assert code == 2
    assert "an interrupted run with another method (lora there, full here), another seed (42 there, 7 here)" in err
    assert sorted(Path("run.part").rglob("*")) == there
    shutil.rmtree("run.part")

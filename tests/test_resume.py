"""A training that was killed goes on with the same command, and ends as if nothing had happened."""

import hashlib
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

OFTEN = """
from emo_nb.cli import main
from emo_nb.config import METHODS, PROFILES
from dataclasses import replace
for settings in METHODS.values():
    settings["save_steps"] = 2
PROFILES["tiny"] = replace(PROFILES["tiny"], epochs=2)
main()
"""  # two epochs of a dozen steps, with a checkpoint each other step


def command(*args):
    "The run of both samples, in a process of its own."
    return [sys.executable, "-c", OFTEN, "run", "--profile", "tiny", *args]


def weights(folder):
    "What was learnt, as a hash."
    return hashlib.sha256((folder / "model" / "model.safetensors").read_bytes()).hexdigest()


def killed_in(moment, args, folder):
    "Start a command and kill it as soon as the moment has come."
    with subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not moment(folder):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, "it ended before it was killed"


def whole(folder):
    "The steps whose checkpoints are whole."
    return {int(file.parent.name.split("-")[1]) for file in folder.glob("checkpoint-*/whole")}


MOMENTS = {
    "within the first epoch": lambda folder: 4 in whole(folder),
    "while a checkpoint is written": lambda folder: (folder / "checkpoint-6").exists(),
    "after the first epoch": lambda folder: max(whole(folder), default=0) > 12,
}


def test_a_training_killed_three_times_ends_with_the_same_weights(here):
    subprocess.run(command("--out", "undisturbed"), check=True, capture_output=True)
    args, folder = command("--out", "run"), here / "run.part"
    for moment in MOMENTS.values():
        killed_in(moment, args, folder)
        assert not (here / "run").exists()
    reached = max(whole(folder))
    done = subprocess.run(args, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"going on where an interrupted run stopped, from checkpoint-{reached}" in done.stdout
    assert weights(here / "run") == weights(here / "undisturbed")
    same = [pd.read_csv(run / "history.csv") for run in (here / "run", here / "undisturbed")]
    pd.testing.assert_frame_equal(*same)
    assert {path.name for path in here.iterdir()} == {"run", "undisturbed"}


def test_going_on_with_other_settings_is_refused_and_names_them(emo, here):
    killed_in(MOMENTS["within the first epoch"], command("--out", "run"), here / "run.part")
    there = sorted(Path("run.part").rglob("*"))
    code, _, err = emo("run", "--profile", "tiny", "--out", "run", "--seed", "7", "--method", "full")
    assert code == 2
    assert "an interrupted run with another method (lora there, full here), another seed (42 there, 7 here)" in err
    assert sorted(Path("run.part").rglob("*")) == there
    shutil.rmtree("run.part")

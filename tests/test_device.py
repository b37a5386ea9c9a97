"""On what is computed: the cores that a process is bound to, the quota of a container, the GPU that torch finds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import python, refusal

from emo_nb.core import ConfigError
from emo_nb.engine.device import choose_backend
from emo_nb.engine.threads import cpu_quota

CONTROLLER = Path("/sys/fs/cgroup/cpu")  # of version 1, where its root may make groups
CORES = "from emo_nb.engine.threads import available_cores; print(*available_cores())"


@pytest.fixture
def one_core():
    "A function that moves the process which calls it into a control group of its own, with a quota of one core."
    group = CONTROLLER / f"emo_nb-{os.getpid()}"
    try:
        group.mkdir()
        (group / "cpu.cfs_quota_us").write_text((group / "cpu.cfs_period_us").read_text())
    except OSError:
        pytest.skip("this machine lets nobody make a control group of version 1")
    yield lambda: (group / "tasks").write_text(str(os.getpid()))
    group.rmdir()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to cores")
def test_a_process_that_is_bound_to_one_core_has_one():
    first = min(os.sched_getaffinity(0))
    done = subprocess.run(
        [sys.executable, "-c", CORES],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {first}),
    )
    assert done.stdout.startswith("1.0 ") and ("affinity" in done.stdout or os.cpu_count() == 1)


def test_the_quota_of_a_container_is_the_number_of_threads_of_the_command(one_core, alone):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, "-m", "emo_nb", "info"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, preexec_fn=one_core, env=environment | {"COLUMNS": "200"}
    )
    assert "1 on 1 core (the CPU quota of its container), asleep after 2000 turns" in done.stdout


TWO_THREADS = """
from emo_nb.engine.device import choose_backend
import torch
torch.set_num_threads(2)
choose_backend("cpu"), choose_backend("cpu")
print(torch.get_num_threads())
"""


def with_two_threads(limit) -> str:
    "What a program with two threads is told on a machine that a function limits to one core."
    done = subprocess.run(
        [sys.executable, "-c", TWO_THREADS], capture_output=True, text=True, check=True, preexec_fn=limit
    )
    assert done.stdout.strip() == "2"
    return done.stderr


def test_a_program_keeps_its_threads_and_is_told_that_a_quota_is_less(one_core):
    assert with_two_threads(one_core).count("2 threads compute on 1 core (the CPU quota of its container)") == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to cores")
def test_a_program_keeps_its_threads_and_is_told_that_it_is_bound_to_fewer_cores():
    first = min(os.sched_getaffinity(0))
    said = with_two_threads(lambda: os.sched_setaffinity(0, {first}))
    assert said.count("2 threads compute on 1 core (") == 1


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "50000 100000"}, 0.5),
        ("0::/hidden/from/the/container", {"cpu.max": "400000 100000"}, 4),
        (
            "3:cpu,cpuacct:/d",
            {"cpu,cpuacct/d/cpu.cfs_quota_us": "-1", "cpu,cpuacct/d/cpu.cfs_period_us": "100000"},
            None,
        ),
        ("3:cpu,cpuacct:/d", {"cpu/d/cpu.cfs_quota_us": "20000", "cpu/d/cpu.cfs_period_us": "10000"}, 2),
        ("", {}, None),
        ("0::/", {"cpu.max": "nonsense"}, None),
    ],
)
def test_the_quota_is_the_least_of_all_groups(tmp_path, groups, files, cores):
    for name, content in {"cgroup": groups, **files}.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content + "\n")
    assert cpu_quota(tmp_path / "cgroup", tmp_path) == cores


OWN_SETTINGS = """
import os
from emo_nb.engine.memory import limit_kernel_cache
from emo_nb.engine.threads import configure_threads
os.environ |= {"OMP_WAIT_POLICY": "active", "LRU_CACHE_CAPACITY": "7"}
configure_threads()
limit_kernel_cache()
print(os.environ["OMP_WAIT_POLICY"], "GOMP_SPINCOUNT" in os.environ, os.environ["LRU_CACHE_CAPACITY"])
"""


def test_what_the_user_has_set_stays():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GOMP_")}
    assert python(OWN_SETTINGS, env=environment).strip() == "active False 7"


@pytest.mark.parametrize("name", ["mps", "xpu"])
def test_a_gpu_that_torch_finds_is_taken_in_the_format_that_all_of_its_kind_have(name, monkeypatch):
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)  # there is none of these here
    monkeypatch.setattr("torch.accelerator.current_accelerator", lambda: torch.device(name))
    backend = choose_backend()
    assert (backend.device, backend.dtype, backend.attention_for()) == (name, "float32", "sdpa")
    assert choose_backend(name, "float16").dtype == "float16" and choose_backend("cpu").device == "cpu"
    with refusal(ConfigError, "(cuda)", f"torch finds {name}"):
        choose_backend("cuda")
    with refusal(ConfigError, "'gpu'", "cpu, cuda, mps, xpu"):
        choose_backend("gpu")

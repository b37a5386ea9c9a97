"""How many threads compute, and how they wait: what the process may use, which can be less than the machine has.

A container has a quota of processor time, and a process may be bound to some cores. torch knows the second and not the
first: on a host of 64 cores it starts 64 threads in a container that may use two of them, and each parallel region then
waits for threads that have no core. Threads that wait also spin for milliseconds, which takes the cores from whatever
else runs, and from the very thread that is waited for; asleep at once, they are slow to begin again. `configure_threads`
sets both for a process of its own, before torch is imported; a program that imports emo_nb keeps its own settings, and is
warned where they do not fit.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

from ..core import warn_once

SPINS = (
    2_000  # turns of GNU's OpenMP before a waiting thread sleeps, a fraction of a millisecond; its default is 300,000
)
CGROUPS = (Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))  # which groups the process is in, and where they are


def available_cores() -> tuple[float, str]:
    "How many cores this process may use at once, and what limits it to them."
    machine = os.cpu_count() or 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else machine
    quota = cpu_quota()
    if quota is not None and quota < cores:
        return quota, "the CPU quota of its container"
    return float(cores), "all of the machine" if cores == machine else f"its affinity, of {machine} on the machine"


def cpu_quota(membership: Path = CGROUPS[0], root: Path = CGROUPS[1]) -> float | None:
    "How many cores the control groups of this process allow, the least of them all; None without a quota."
    quotas = []
    for line in _lines(membership):
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2
            files = [_read_max(folder / "cpu.max") for base in (root, root / "unified") for folder in _up(base, path)]
        elif "cpu" in controllers.split(","):
            bases = (root / "cpu", root / controllers)
            files = [_read_quota(folder) for base in bases for folder in _up(base, path)]
        else:
            continue
        quotas += [quota for quota in files if quota]
    return min(quotas, default=None)


def _up(base: Path, path: str) -> Iterator[Path]:
    "The folder of a control group and those above it, up to the base; the base alone where a container hides the others."
    folder = base / path.lstrip("/")
    yield from (one for one in (folder, *folder.parents) if one == base or base in one.parents)


def _lines(file: Path) -> list[str]:
    try:
        return [line for line in file.read_text().splitlines() if line.count(":") >= 2]
    except OSError:
        return []


def _read_max(file: Path) -> float | None:
    "The quota in `cpu.max`: microseconds in a period of microseconds, or `max`."
    try:
        quota, period = file.read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _read_quota(folder: Path) -> float | None:
    "The same of version 1, which has -1 for none."
    try:
        quota, period = (int((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def configure_threads() -> None:
    """Have torch, which is not imported yet, start no more threads than there are cores, and let them wait as they should.

    For a process that is emo_nb's own. What the user has set in the environment stays.
    """
    cores, _ = available_cores()
    if cores < (os.cpu_count() or 1):
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, math.floor(cores))))
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))


def waiting_policy() -> str:
    "How threads wait for each other, by the environment."
    if policy := os.environ.get("OMP_WAIT_POLICY"):
        return f"OMP_WAIT_POLICY={policy}"
    spins = os.environ.get("GOMP_SPINCOUNT")
    return f"asleep after {spins} turns" if spins else "spinning"


def count_cores(cores: float) -> str:
    "So many cores in words."
    return f"{cores:g} core{'' if cores == 1 else 's'}"


def check_threads(n_threads: int) -> None:
    "Warn, once, where so many threads compute on fewer cores."
    cores, limit = available_cores()
    if n_threads > math.ceil(cores):
        warn_once(
            f"{n_threads} threads compute on {count_cores(cores)} ({limit}), and wait for each other; set OMP_NUM_THREADS="
            f"{max(1, math.floor(cores))} before the program starts, or call torch.set_num_threads"
        )

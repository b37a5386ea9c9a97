"""A Ray cluster: reached or begun, looked at before work is given to it, and its errors as sentences."""

import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..core import ConfigError, ModelError, first_line
from ..engine.threads import SPINS, available_cores
from ..predict import TrainedClassifier

_SECONDS_TO_CONNECT, _SECONDS_TO_ANSWER = 10, 120


def ray_data() -> Any:
    "The module `ray.data`, its own progress bars turned off. `ConfigError` where Ray is not installed."
    try:
        import ray.data
    except ImportError as error:
        raise ConfigError(
            'Ray Data, which the engine ray needs, is not installed; pip install "emo_nb[ray]"'
        ) from error
    ray.data.DataContext.get_current().enable_progress_bars = False
    return ray.data


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """The cluster at an address (`auto`: the one that this machine belongs to), or processes of this machine for None.

    A program that is connected to a cluster already stays so. Raises `ConfigError` where no server answers.
    """
    ray_data()
    import ray

    if ray.is_initialized():
        yield
        return
    _check_answers(address)
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        options |= {"num_cpus": max(1, int(available_cores()[0])), "include_dashboard": False}
    try:
        with _silent():
            ray.init(address or "local", **options)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise ConfigError(
            f"no Ray cluster answers at {address or 'this machine'} ({first_line(error)}); start one with `ray start "
            "--head`, or leave --address out"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def one_row_a_block() -> Iterator[None]:
    "Datasets begun in the block give each row to a worker by itself; Ray Data would collect 128 MB for one of them."
    context = ray_data().DataContext.get_current()
    size, context.target_max_block_size = context.target_max_block_size, 1
    try:
        yield
    finally:
        context.target_max_block_size = size


@contextmanager
def _silent() -> Iterator[None]:
    "Nothing reaches the terminal: Ray's core writes there about its settings, past Python."
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _check_answers(address: str | None) -> None:
    "Raise `ConfigError` where nobody listens at an address with a port."
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        with socket.create_connection((host, int(port)), _SECONDS_TO_CONNECT) as connection:
            if os.environ.get("RAY_USE_TLS", "0") in ("", "0"):
                _check_speaks_http2(connection)
    except OSError as error:
        raise ConfigError(
            f"no Ray cluster answers at {address} ({first_line(error)}); start one with `ray start --head`, or leave "
            "--address out"
        ) from error


def _check_speaks_http2(connection: socket.socket) -> None:
    "Raise `OSError` where what answers does not begin HTTP/2, on which Ray's protocol stands; Ray would wait for it."
    settings = 4  # the type of the frame with which either side begins
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, settings, 0, 0, 0, 0, 0]))
    if (connection.recv(9) + bytes(9))[3] != settings:
        raise OSError("what listens there is no Ray cluster")


def _look_around() -> Callable[[Sequence[str]], tuple[str, list[str]]]:
    "A function that says, on a machine that may lack emo_nb, which version of it is there and which places are not."

    def look(places: Sequence[str]) -> tuple[str, list[str]]:  # one inside another is sent as it is, not by its name
        import os
        from importlib.metadata import PackageNotFoundError, version

        try:
            installed = version("emo_nb")
        except PackageNotFoundError:
            installed = ""
        return installed, [place for place in places if "://" not in place and not os.path.exists(place)]

    return look


def check_machines(places: Sequence[str]) -> None:
    "Raise `ConfigError` where a machine lacks emo_nb, has another version of it, or does not see one of the places."
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from .. import __version__

    remote = ray.remote(num_cpus=0)(_look_around())
    asked: list[tuple[str, Any]] = []
    for node in (node for node in ray.nodes() if node["Alive"]):
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        asked.append((node["NodeManagerAddress"], remote.options(scheduling_strategy=there).remote(places)))
    for address, answer in asked:
        try:
            installed, missing = ray.get(answer, timeout=_SECONDS_TO_ANSWER)
        except ray.exceptions.RayError as error:
            raise ConfigError(
                f"the machine {address} of the cluster does not answer ({first_line(error)}); take it out of the cluster, "
                "or start Ray anew there"
            ) from error
        if installed != __version__:
            what = f"has emo_nb {installed}" if installed else "has no emo_nb"
            raise ConfigError(
                f"the machine {address} {what}, and this one {__version__}; install the same on all of them"
            )
        if missing:
            raise ConfigError(f"the machine {address} does not see {missing[0]}; name a place that all machines share")


def worker_options(trained: TrainedClassifier, cores: int | None, *arguments: Any) -> dict[str, Any]:
    """The options of `Dataset.map_batches` for workers that hold the classifier: one for so many cores, one thread each.

    The class of the workers is given a function that returns the classifier, and then the arguments.
    """
    import ray

    on_gpu = trained.backends.bulk.device == "cuda"
    cores, workers = _divide_cores(cores, on_gpu)
    reference = [ray.put(trained)]  # in a list, so that a worker fetches it itself

    def model() -> TrainedClassifier:
        os.environ["OMP_NUM_THREADS"] = str(cores)  # read when torch is imported
        if "OMP_WAIT_POLICY" not in os.environ:
            os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
        import torch

        torch.set_num_threads(cores)
        return ray.get(reference[0])

    return {
        "fn_constructor_args": (model, *arguments),
        "compute": ray.data.ActorPoolStrategy(min_size=1, initial_size=workers, max_size=workers),
        "num_cpus": cores,
        "num_gpus": int(on_gpu),
    }


def _divide_cores(cores: int | None, on_gpu: bool) -> tuple[int, int]:
    "The cores of a worker, and how many workers there is room for, on GPUs one for each. `ConfigError` where there is none."
    import ray

    machines = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    sizes = [int(of.get("CPU", 0)) for of in machines]
    if not sizes:
        raise ConfigError("no machine of the cluster has a core for a worker; start a worker, then try again")
    cores = cores or 1  # several workers of one thread each do more than one of several threads
    if cores > max(sizes):
        raise ConfigError(f"a worker of {cores} cores fits on no machine, the largest has {max(sizes)}; give fewer")
    rooms = [
        min(size // cores, int(of.get("GPU", 0)) if on_gpu else size) for size, of in zip(sizes, machines, strict=True)
    ]
    if not sum(rooms):
        raise ConfigError(
            "no machine of the cluster has a GPU, for which the model was opened; open it with device cpu"
        )
    return cores, sum(rooms)


@contextmanager
def explained() -> Iterator[None]:
    "Turn what Ray raises in the block into one sentence."
    import ray

    try:
        yield
    except ray.exceptions.RayError as error:
        raise ModelError(
            f"a worker failed ({first_line(error)}); finished parts are kept, give the same command again"
        ) from error

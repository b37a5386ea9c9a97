"""Several processes that train one model, on one machine or on several: which one this is, and what if another is lost.

A process that ends closes its connections, and the others fail at once. A machine that loses its power or its network
closes nothing, so nobody waits for an answer longer than `COLLECTIVE_TIMEOUT`.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from ..core import ConfigError, EmoNbError, first_line

COLLECTIVE_TIMEOUT = timedelta(seconds=45)  # that a process waits for the others within a training
_RENDEZVOUS_TIMEOUT = timedelta(minutes=30)  # that it waits for them before


def distributed_rank() -> tuple[int, int]:
    "The rank of this process and the number of processes, as `accelerate launch` sets them; (0, 1) without it."
    local, cores = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), os.cpu_count() or 1
    if local > cores:
        raise ConfigError(f"{local} processes were started on {cores} cores; start at most {cores} (--num_processes)")
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def join_processes() -> None:
    """Connect to the other processes, where `accelerate launch` started several; some need longer to read their data.

    On CPUs, where accelerate would let a process wait half an hour for one that is lost, whatever it is told.
    """
    from torch import distributed

    rank, size = distributed_rank()
    if size == 1 or distributed.is_initialized():
        return
    store, *_ = next(distributed.rendezvous("env://", timeout=_RENDEZVOUS_TIMEOUT))
    store.set(f"emo_nb {rank}", "here")
    store.wait([f"emo_nb {other}" for other in range(size)], _RENDEZVOUS_TIMEOUT)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=COLLECTIVE_TIMEOUT)


@contextmanager
def explain_lost_process() -> Iterator[None]:
    "Turn what torch raises in the block when another process ends or cannot be reached into one sentence."
    try:
        yield
    except RuntimeError as error:
        from torch.distributed import DistError

        if not isinstance(error, DistError) and "gloo" not in str(error):
            raise
        reason = re.sub(r"^\[[^]]*\] ", "", first_line(error))  # without the place in gloo's source
        raise EmoNbError(
            f"another process of this training has ended or cannot be reached ({reason}); give the same command again on "
            "every machine, and it continues from the last checkpoint"
        ) from error

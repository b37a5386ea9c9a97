"""Memory: recognising that it ran out, giving it back, keeping what training frees, and keeping few kernels.

oneDNN compiles a kernel for each shape of a product that it meets, and keeps a thousand of them, torch's own layer above
it another thousand: a third to a half of a megabyte each. Batches of texts have hundreds of shapes.
"""

import ctypes
import gc
import os
import sys
from typing import Any


def is_out_of_memory(error: Exception) -> bool:
    "Whether an error, of torch on a CPU or a GPU for example, says that memory ran out."
    if isinstance(error, MemoryError):
        return True
    from accelerate.utils.memory import should_reduce_batch_size

    return should_reduce_batch_size(error) or "could not create a primitive" in str(error)


def release_memory() -> None:
    "Have Python, the GPU's allocator and glibc return memory that nobody uses."
    gc.collect()
    if "torch" in sys.modules:
        from accelerate.utils.memory import clear_device_cache

        clear_device_cache()
    libc = _glibc()
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def keep_freed_memory() -> None:
    """Have glibc keep freed memory for reuse, for the rest of this process.

    Each training step frees and allocates the same hundreds of megabytes; returned to the system in between, every
    page is cleared again by the kernel. This changes the process for good, so only the command line calls it.
    """
    libc = _glibc()
    if hasattr(libc, "mallopt"):
        for option, value in ((-4, 0), (-1, -1), (-2, 2**28)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD of malloc.h
            libc.mallopt(option, value)


def limit_kernel_cache(count: int = 24) -> None:
    """Have oneDNN, and torch's layer above it, keep so many kernels each; before torch computes anything.

    For a process that is emo_nb's own. What the user has set in the environment stays. A training then needs little more
    than half of the memory, and compiles some kernels twice.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, str(count))


def _glibc() -> Any:
    return ctypes.CDLL(None) if sys.platform == "linux" else None

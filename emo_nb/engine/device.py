"""What a machine computes fastest with: its device, its number format, its attention kernel.

A processor with AMX or AVX512-BF16 multiplies bfloat16 several times as fast as float32; one without emulates it, ten
times slower. A GPU of NVIDIA's with compute capability 8 or more has bfloat16, an older one float16; Apple's (`mps`) and
Intel's (`xpu`) are taken where torch finds them, in float32. `choose_backend` looks, says why, and returns one `Backend`,
which is decided once and passed on to whatever trains or predicts.
"""

import os
import platform
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

from ..core import ConfigError, Dtype, warn_once
from .threads import check_threads

ACCELERATORS = ("cuda", "mps", "xpu")  # torch's names of the GPUs that are used
BF16_FEATURES = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16"}  # by torch's names, the faster first
FUSED_ATTENTION_FROM = 64  # tokens a text; shorter ones are quicker with eager attention on a CPU


@dataclass(frozen=True)
class Backend:
    "What to compute with, and why."

    device: str  # cpu, or one of `ACCELERATORS`
    dtype: str  # float32, bfloat16 or float16: the format of the large matrix products
    attention: str | None  # eager or sdpa, in transformers' words; None: by the length of the texts
    reason: str

    def attention_for(self, mean_length: float = 20) -> str:
        "The attention kernel for texts of this mean length, in tokens."
        is_fused = self.device != "cpu" or (self.dtype == "float32" and mean_length >= FUSED_ATTENTION_FROM)
        return self.attention or ("sdpa" if is_fused else "eager")


def choose_backend(device: str | None = None, dtype: str | None = None, attention: str | None = None) -> Backend:
    """The device and number format that suit this machine, or the ones asked for.

    One request is not granted: bfloat16 on a processor that would emulate it; a warning says so. Raises `ConfigError`
    for a GPU where torch finds none, and for unknown names. Warns where torch has more threads than there are cores.
    """
    import torch

    accelerator = find_accelerator()
    if device not in (None, "cpu", *ACCELERATORS):
        raise ConfigError(f"there is no device {device!r}; choose one of: cpu, {', '.join(ACCELERATORS)}")
    if device not in (None, "cpu", accelerator):
        raise ConfigError(
            f"a GPU was asked for ({device}), but torch finds {accelerator or 'none'}; leave the device out, or choose cpu"
        )
    device = device or accelerator or "cpu"
    if device == "cpu":
        check_threads(torch.get_num_threads())
    best, reason = {"cpu": best_cpu_dtype, "cuda": best_gpu_dtype}.get(device, _exact_dtype)()
    check_dtype(dtype)
    if attention not in (None, "eager", "sdpa"):
        raise ConfigError(f"there is no attention {attention!r}; choose one of: eager, sdpa")
    if device == "cpu" and dtype == "bfloat16" != best:
        dtype, reason = best, f"bfloat16 was asked for, but {reason}"
        warn_once(f"computing in {best}: {reason}")
    elif dtype:
        reason = f"asked for; {best} would suit ({reason})"
    return Backend(device, dtype or best, attention, reason)


def check_dtype(dtype: str | None) -> None:
    "Raise `ConfigError` for a number format that models are not computed or stored in."
    if dtype not in (None, *get_args(Dtype)):
        raise ConfigError(f"there is no number format {dtype!r}; choose one of: {', '.join(get_args(Dtype))}")


def best_cpu_dtype() -> tuple[str, str]:
    "The number format that this processor multiplies fastest, and the reason."
    import torch

    bf16_features = [name for feature, name in BF16_FEATURES.items() if feature in processor_features()]
    if bf16_features and torch.backends.cpu.get_cpu_capability() == "AVX2":
        return "float32", "torch is kept to AVX2 (ATEN_CPU_CAPABILITY)"
    if bf16_features:
        return "bfloat16", f"the processor has {bf16_features[0]}"
    return "float32", "the processor has no instructions for bfloat16"


def processor_features() -> list[str]:
    "What this processor can compute with that matters here, by torch's names; empty where torch does not say."
    import torch

    known = ("avx2", "avx512_f", "avx512_vnni", *reversed(BF16_FEATURES))
    flags = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return [feature for feature in known if flags.get(feature)]


def machine_kind() -> str:
    "What decides how fast this machine multiplies: the kind of its GPU, or its processor's best feature."
    best = (processor_features() or [platform.machine()])[-1]
    return find_accelerator() or best.replace("_", "-").removesuffix("-f")


def find_accelerator() -> str | None:
    "The GPU that torch finds, by torch's name; None where it finds none that is used."
    import torch

    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator.type if accelerator is not None and accelerator.type in ACCELERATORS else None


def _exact_dtype() -> tuple[str, str]:
    return "float32", "of this kind of GPU, not every one has the smaller formats"


def best_gpu_dtype() -> tuple[str, str]:
    "The number format that the first GPU of NVIDIA's multiplies fastest, and the reason."
    import torch

    major, minor = torch.cuda.get_device_capability()
    return "bfloat16" if major >= 8 else "float16", f"the GPU has compute capability {major}.{minor}"


_computing_process: int | None = None


def use_one_thread_after_fork() -> None:
    """Have torch compute with one thread in a process that was forked from one that has computed.

    The threads of the parent do not exist in its child, which would wait for them without end. Call it before any
    computation.
    """
    global _computing_process
    import torch

    if _computing_process not in (None, os.getpid()):
        torch.set_num_threads(1)
    _computing_process = os.getpid()


def check_can_train(backend: Backend) -> None:
    "Raise `ConfigError` for a backend on which training is not possible."
    if backend.device == "cpu" and backend.dtype == "float16":
        raise ConfigError("float16 cannot train on a CPU; choose bfloat16 or float32, or leave --dtype out")


def forward_flops(config: Any, lengths: Any) -> float:
    """Floating-point operations of a BERT classifier's forward pass over texts of these lengths (n_texts,), in tokens.

    A multiply-add counts as two; the last layer counts only what its first token needs. The backward pass takes as
    many again, and once more where the weight matrices are trained.
    """
    d, f, tokens = config.hidden_size, config.intermediate_size, lengths.sum()
    layer = 2 * (4 * d * d + 2 * d * f) * tokens + 4 * d * (lengths**2).sum()
    last = 2 * 2 * d * d * tokens + 2 * (2 * d * d + 2 * d * f) * len(lengths) + 4 * d * tokens
    head = 2 * (d * d + d * config.num_labels) * len(lengths)
    return float((config.num_hidden_layers - 1) * layer + last + head)


@cache
def measure_peak_flops(backend: Backend, size: int | None = None, repeats: int = 3) -> float:
    "The most floating-point operations a second that products of large matrices reach on this backend; measured once."
    import time

    import torch

    if size is None:  # few threads reach their peak with smaller matrices, in an eighth of the time
        size = 1024 if backend.device == "cpu" and torch.get_num_threads() <= 8 else 2048
    a, b = (torch.randn(size, size, device=backend.device, dtype=getattr(torch, backend.dtype)) for _ in range(2))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        (a @ b)[0, 0].item()  # a GPU returns when it is done
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)

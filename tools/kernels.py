"""Notebook kernels that need not import everything anew: one process imports, and each kernel is a fork of it.

`start_from_a_fork()` makes this jupyter's default for the process. A kernel is as fresh as any other: what is imported
has done nothing yet.
"""

import multiprocessing
import os
import signal
import tempfile
from importlib.metadata import EntryPoint
from typing import Any

from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

IMPORTED = [
    *("ipykernel.kernelapp", "matplotlib_inline.backend_inline", "matplotlib.pyplot", "pandas", "pyarrow.parquet"),
    *("scipy.special", "scipy.optimize", "sklearn.metrics", "sklearn.linear_model", "torch", "peft", "accelerate"),
    *("transformers.trainer", "transformers.models.bert.modeling_bert", "pydantic", "typer", "rich.console"),
]
FORKS = multiprocessing.get_context("forkserver")


def start_from_a_fork() -> None:
    "Kernels that this process starts from now on are forks of one that has imported what notebooks import."
    FORKS.set_forkserver_preload(IMPORTED)
    factory = KernelProvisionerFactory.instance()
    name = ForkProvisioner.__name__
    factory.provisioners[name] = EntryPoint(name, f"{__name__}:{name}", factory.GROUP_NAME)
    factory.default_provisioner_name = name


class ForkProvisioner(LocalProvisioner):
    "Starts a kernel by a fork in place of a command."

    async def launch_kernel(self, cmd: list[str], **options: Any) -> Any:
        "Start the kernel that a command like `python -m ipykernel_launcher -f FILE` would start."
        arguments = cmd[cmd.index("ipykernel_launcher") + 1 :]
        process = ForkedProcess(arguments, options.get("cwd"), options.get("env") or {})
        self.process = process  # type: ignore[assignment]  # all that is asked of one of `subprocess`
        self.pid = self.pgid = process.pid
        return self.connection_info


class ForkedProcess:
    "A kernel's process, asked as jupyter asks those of `subprocess`."

    stdin = stdout = stderr = None

    def __init__(self, arguments: list[str], folder: str | None, environment: dict[str, str]):
        self.process = FORKS.Process(target=_run_kernel, args=(arguments, folder, environment))
        self.process.start()
        self.pid: int = self.process.pid or 0

    def poll(self) -> int | None:
        "The exit code; None while it runs."
        return self.process.exitcode

    def wait(self) -> int | None:
        "The exit code, once it has ended."
        self.process.join()
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        "Send it a signal."
        os.kill(self.pid, number)

    def kill(self) -> None:
        "End it at once."
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        "Ask it to end."
        self.send_signal(signal.SIGTERM)


def _run_kernel(arguments: list[str], folder: str | None, environment: dict[str, str]) -> None:
    import pandas as pd
    from ipykernel.kernelapp import IPKernelApp

    pd.set_option("display.max_columns", 20)  # as pandas has it where it is imported in a notebook
    os.setsid()  # signals go to the kernel and whatever it starts
    os.chdir(folder or ".")
    os.environ |= environment
    tempfile.tempdir = None  # TMPDIR may be another now
    IPKernelApp.launch_instance([*arguments, "--quiet"])

"""Start modules of rankzero as detached processes, and identify processes."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from rankzero.files.writing import open_own
from rankzero.rank import RANK_VARIABLES

INTEGRATIONS = "RANKZERO_INTEGRATIONS"
"""The variable that names frameworks: see `rankzero.integrations`. The modules started here do not have it."""

_RUN_MODULE = (
    "import runpy, sys; sys.path.append(sys.argv.pop()); runpy.run_module(sys.argv[1], {}, '__main__', alter_sys=True)"
)


class ProcessId(msgspec.Struct):
    """Identifies a process, also after the kernel reuses its number."""

    host: str
    boot: str
    """Identifies a kernel since its boot, independent of the host name in a container."""
    pid: int
    started: int = 0
    """The start time in the kernel's ticks; 0 if unknown. No other process has the same number and start time."""


@contextmanager
def environment_of(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables of this process for a block; what is started in it inherits them."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def start_module(module: str, given: bytes, output: Path | None) -> subprocess.Popen[bytes]:
    """Start a module of rankzero as a program in its own session, and return at once.

    A Ctrl-C in the terminal and the end of this process do not affect it.

    Args:
        module: the full name of the module.
        given: its standard input, so that no secret is in its arguments or on disk.
        output: the file to which its output is appended. If None, its standard output is a pipe, and its standard error
            is dropped.

    Raises:
        OSError: the process cannot be started, or ``output`` cannot be written.
    """
    reap()
    environment = {key: value for key, value in os.environ.items() if key not in {*RANK_VARIABLES, INTEGRATIONS}}
    with open(os.devnull, "ab") if output is None else open_own(output, "ab") as file:
        process = subprocess.Popen(
            _command(module),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if output is None else file,
            stderr=file,
            start_new_session=True,
            env=environment,
        )
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin:  # it died at once, which is detected later
        process.stdin.write(given)
    return process


_detached: list[int] = []
"""Detached processes; they are still child processes, which must be reaped."""


def detach(process: subprocess.Popen[bytes]) -> None:
    """Detach a child process, which continues to run; `reap` collects its exit status."""
    if process.poll() is None:
        _detached.append(process.pid)
    # Popen would warn when it is garbage-collected while the child runs, which is intended here.
    process.returncode = process.returncode or 0


def reap() -> None:
    """Collect the exit status of detached processes that have ended, so that they do not stay zombies."""
    for pid in list(_detached):
        with suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                continue
        with suppress(ValueError):  # another thread was faster
            _detached.remove(pid)


def _command(module: str) -> list[str]:
    """Return the command that runs a module of rankzero, and never a module in the working directory.

    It uses the same environment and user packages as this process, and gets the path of rankzero as an argument.
    """
    flags = [("-I", sys.flags.isolated), ("-E", sys.flags.ignore_environment), ("-s", sys.flags.no_user_site)]
    package = os.path.dirname(os.path.abspath(__file__))
    return [
        sys.executable, "-P", *(flag for flag, is_set in flags if is_set), "-c", _RUN_MODULE, module,
        os.path.dirname(package),
    ]  # fmt: skip


def is_module_of_rankzero(command: list[str]) -> bool:
    """Return whether this is the command line of a process that `start_module` has started."""
    return _RUN_MODULE in command


def ipython_shell() -> Any:
    """Return the shell if this process runs in IPython or Jupyter, else None; does not import IPython."""
    return getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()


def html_formatter() -> Any:
    """Return what makes the HTML of a cell's output in Jupyter, else None."""
    formatters = getattr(getattr(ipython_shell(), "display_formatter", None), "formatters", {})
    return formatters.get("text/html")


def this_process() -> ProcessId:
    """Return the identity of this process."""
    return ProcessId(platform.node(), boot_id(), os.getpid(), start_time(os.getpid()))


def is_running(process: ProcessId) -> bool:
    """Return whether this process runs on this machine; False in another container."""
    return process.started != 0 and process.boot == boot_id() and process.started == start_time(process.pid)


def start_time(pid: int) -> int:
    """Return the start time of a process; 0 if there is none or it is a zombie."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):  # no such process, or not Linux
        return 0
    return 0 if state in "ZX" else int(fields[18])


def boot_id() -> str:
    """Return the boot id of the kernel, or the host name if it is unknown."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux
        return platform.node()

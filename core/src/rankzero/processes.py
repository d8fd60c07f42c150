"""Start modules of rankzero as detached processes, and identify processes."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from rankzero.files.writing import open_own
from rankzero.rank import RANK_VARIABLES

_RUN_MODULE = (
    "import runpy, sys; sys.path.append(sys.argv.pop()); runpy.run_module(sys.argv[1], {}, '__main__', alter_sys=True)"
)


class ProcessId(msgspec.Struct):
    """What tells one process from all others, also after its number was given to another."""

    host: str
    boot: str
    """Identifies one run of one kernel, whatever name a container gives its host."""
    pid: int
    started: int = 0
    """When the process started, in the kernel's ticks: no other process has that id and that time. 0 if not known."""


def start_module(module: str, given: bytes, output: Path) -> subprocess.Popen[bytes]:
    """Start a module of rankzero as a program in a session of its own, and return at once.

    A Ctrl-C in the terminal, or the end of this process, does not reach it.

    Args:
        module: its full name.
        given: what it reads from its standard input, so that no secret stands in its arguments or on disk.
        output: the file that takes what it prints.

    Raises:
        OSError: no process can be started, or ``output`` not be written.
    """
    reap()
    environment = {key: value for key, value in os.environ.items() if key not in RANK_VARIABLES}
    with open_own(output, "ab") as file:
        process = subprocess.Popen(
            _command(module),
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=file,
            start_new_session=True,
            env=environment,
        )
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin:  # it died at once, which is noticed later
        process.stdin.write(given)
    return process


_detached: list[int] = []
"""Processes that go on by themselves; they are still children, which must be reaped."""


def detach(process: subprocess.Popen[bytes]) -> None:
    """Let a child process go on by itself; `reap` takes its exit status."""
    if process.poll() is None:
        _detached.append(process.pid)
    # Popen would warn of a child that goes on when it is collected; this one is meant to.
    process.returncode = process.returncode or 0


def reap() -> None:
    """Take the exit status of detached processes that have ended, which frees their place in the kernel's table."""
    for pid in list(_detached):
        with suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                continue
        with suppress(ValueError):  # another thread was faster
            _detached.remove(pid)


def _command(module: str) -> list[str]:
    """Return the command that runs a module of rankzero, and nothing of the same name in the working directory.

    It uses the environment and the user's packages as this process does, and gets the path of rankzero as an argument.
    """
    flags = [("-I", sys.flags.isolated), ("-E", sys.flags.ignore_environment), ("-s", sys.flags.no_user_site)]
    package = os.path.dirname(os.path.abspath(__file__))
    return [
        sys.executable, "-P", *(flag for flag, is_set in flags if is_set), "-c", _RUN_MODULE, module,
        os.path.dirname(package),
    ]  # fmt: skip


def ipython_shell() -> Any:
    """Return the shell if this process runs in IPython or Jupyter, else None; IPython is not imported for it."""
    return getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()


def this_process() -> ProcessId:
    """Return what identifies this process."""
    return ProcessId(platform.node(), boot_id(), os.getpid(), start_time(os.getpid()))


def is_running(process: ProcessId) -> bool:
    """Return whether the very process runs on this machine; it is not seen from another container."""
    return process.started != 0 and process.boot == boot_id() and process.started == start_time(process.pid)


def start_time(pid: int) -> int:
    """Return when a process started, 0 if there is none or it is dead and not yet reaped."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):  # no such process, or not Linux
        return 0
    return 0 if state in "ZX" else int(fields[18])


def boot_id() -> str:
    """Return what identifies this run of the kernel; the host's name where that is not known."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux
        return platform.node()

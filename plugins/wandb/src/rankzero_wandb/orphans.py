"""What a courier that was killed leaves behind: W&B's client core, when it has something to send and nobody answers."""

from __future__ import annotations

import os
import platform
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def end_orphan(host: str, pid: int) -> None:
    """End the ``wandb-core`` of a process that is gone; what it was to send is in the journal.

    Some wait for hours, and may then send what another courier has sent since. Only on Linux, and on the machine
    where it is.
    """
    if host == platform.node() and not _is_alive(pid):
        for core in _cores_of(pid):
            with suppress(OSError):
                os.kill(core, signal.SIGKILL)


def _is_alive(pid: int) -> bool:
    try:
        state = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"  # dead, and not yet buried


def _cores_of(pid: int) -> Iterator[int]:
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            arguments = process.joinpath("cmdline").read_bytes().split(b"\0")
            if arguments[0].endswith(b"/wandb-core") and str(pid).encode() in arguments[1:]:
                yield int(process.name)

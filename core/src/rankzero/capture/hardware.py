"""Measure CPU, memory, disk, network and GPUs; only for the process of `rankzero.capture.system_metrics`."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import psutil

from rankzero.capture.gpus import Gpu, visible_gpus
from rankzero.processes import is_module_of_rankzero

log = logging.getLogger("rankzero.system_metrics")

Measured = Iterator[tuple[str, float]]
"""(name, value) of what could be measured."""

_NOTHING = (0.0, 0.0, 0.0)


class Hardware:
    """What the training process uses, and its machine. Disk and network are counted from when this is made.

    Args:
        pid: the training process.
        directory: the run's directory, for the free space of its disk.
    """

    def __init__(self, pid: int, directory: str) -> None:
        self._directory = directory
        self._processes = _ProcessTree(pid)
        self._network_before: Any = None
        self._reported: set[str] = set()
        gpus = [functools.partial(_measure_gpu, gpu) for gpu in visible_gpus()]
        self._parts: list[Callable[[], Measured]] = [
            self._machine, self._disk, self._network, self._processes.measure, *gpus
        ]  # fmt: skip
        self.measure()  # CPU is measured since the last time

    def measure(self) -> dict[str, float]:
        """Return name → value; what cannot be measured is left out."""
        found: dict[str, float] = {}
        for part in self._parts:
            try:
                found.update(part())
            except psutil.NoSuchProcess:  # the training process has just died
                continue
            except Exception as error:
                if (text := f"{type(error).__name__}: {error}") not in self._reported:
                    self._reported.add(text)
                    log.warning("some system metrics cannot be measured: %s", text)
        return found

    def _machine(self) -> Measured:
        yield "cpu_percent", psutil.cpu_percent()
        yield "memory_percent", psutil.virtual_memory().percent

    def _disk(self) -> Measured:
        yield "disk_free_gb", _gb(psutil.disk_usage(self._directory).free)

    def _network(self) -> Measured:
        now = psutil.net_io_counters()
        if now is not None:  # there is a network
            before = self._network_before = self._network_before or now
            yield "network_sent_gb", _gb(now.bytes_sent - before.bytes_sent)
            yield "network_received_gb", _gb(now.bytes_recv - before.bytes_recv)


class _ProcessTree:
    """A process and its children, without the processes that rankzero starts, and their children."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._used: dict[psutil.Process, tuple[float, ...]] = {process: _used(process) for process in self._all()}
        self._time = time.monotonic()
        self._read = self._written = 0.0

    def measure(self) -> Measured:
        before, self._used = self._used, {}
        seconds, self._time = time.monotonic() - self._time, time.monotonic()
        memory, cpu = 0, 0.0
        for process in self._all():
            with suppress(psutil.Error), process.oneshot():  # it may just have ended
                self._used[process] = now = _used(process)
                memory += process.memory_info().rss
                # A new process has used everything since the last measurement.
                new = [used - known for used, known in zip(now, before.get(process, _NOTHING), strict=True)]
                cpu, self._read, self._written = cpu + new[0], self._read + new[1], self._written + new[2]
        yield "process/cpu_percent", round(100 * cpu / seconds, 1)
        yield "process/memory_gb", _gb(memory)
        if hasattr(self._root, "io_counters"):  # not on macOS
            yield "process/disk_read_gb", _gb(self._read)
            yield "process/disk_written_gb", _gb(self._written)

    def _all(self) -> Iterator[psutil.Process]:
        yield self._root
        left_out: set[int] = set()
        for process in self._root.children(recursive=True):  # parents come before their children
            with suppress(psutil.Error):
                parent = process.ppid()
                is_helper = parent == self._root.pid and is_module_of_rankzero(process.cmdline())
                if is_helper or parent in left_out:
                    left_out.add(process.pid)
                else:
                    yield process


def _used(process: psutil.Process) -> tuple[float, ...]:
    """Return the seconds of CPU time, and the bytes read and written, of a process."""
    with suppress(psutil.Error):
        times = process.cpu_times()
        with suppress(AttributeError, psutil.AccessDenied):
            disk = process.io_counters()
            return times.user + times.system, disk.read_bytes, disk.write_bytes
        return times.user + times.system, 0.0, 0.0
    return _NOTHING


def _measure_gpu(gpu: Gpu) -> Measured:
    return ((f"gpu{gpu.number}/{name}", value) for name, value in gpu.measure())


def _gb(count: float) -> float:
    return round(count / 1e9, 6)

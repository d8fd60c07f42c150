"""Values that an accelerator is still computing: their rows are written as soon as they are ready, by a thread.

Asking a GPU for a value waits until everything queued before it is done. A log call must not: it queues a copy
to pinned memory behind the computation and returns.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

from rankzero.values import Number


class DeviceCopy:
    """One-element tensors on their way to the CPU."""

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        """Queue the copies; returns at once."""
        import torch

        self._groups: list[tuple[list[str], Any]] = []
        self._events: list[Any] = []
        by_kind: dict[tuple[Any, Any], dict[str, Any]] = {}
        for key, tensor in tensors.items():
            by_kind.setdefault((tensor.device, tensor.dtype), {})[key] = tensor.detach().reshape(())
        for (device, _), group in by_kind.items():
            # One kernel and one copy for all values of a kind; torch pins the memory that it copies into.
            host = torch.stack(list(group.values())).to("cpu", non_blocking=True)
            event = torch.Event(device)
            event.record()
            self._groups.append((list(group), host))
            self._events.append(event)

    def wait(self) -> dict[str, Number]:
        """Return the values when they are computed; other threads run meanwhile."""
        for event in self._events:
            event.synchronize()
        return {key: value for keys, host in self._groups for key, value in zip(keys, host.tolist(), strict=True)}


class DeviceRows:
    """Completes rows in the order in which they were logged, in a daemon thread that starts with the first."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[DeviceCopy, Callable[[dict[str, Number]], None]]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._waiting = 0
        self._changed = threading.Condition()

    def put(self, copy: DeviceCopy, write: Callable[[dict[str, Number]], None]) -> None:
        """Call ``write`` with the values of ``copy`` when they are there."""
        with self._changed:
            self._waiting += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="rankzero-device", daemon=True)
                self._thread.start()
        self._queue.put((copy, write))

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until every row is written; return whether that was so within ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._waiting == 0, timeout)

    def _run(self) -> None:
        while True:
            copy, write = self._queue.get()
            try:
                write(copy.wait())
            finally:
                with self._changed:
                    self._waiting -= 1
                    self._changed.notify_all()

"""Values that an accelerator is still computing: their rows are written as soon as they are ready, by a thread.

Asking a GPU for a value waits until everything queued before it is done. A log call must not: it queues a copy
to pinned memory behind the computation and returns.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from rankzero.messages import warn_user
from rankzero.values import Number, to_number

_IDLE = 5.0  # seconds


class DeviceCopy:
    """One-element tensors on their way to the CPU."""

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        """Queue the copies; returns at once, and leaves it to `wait` to raise."""
        self.keys = list(tensors)
        self._groups: list[tuple[list[str], Any, Any]] = []
        self._error: Exception | None = None
        try:
            self._queue(tensors)
        except Exception as error:
            self._error = error

    def _queue(self, tensors: Mapping[str, Any]) -> None:
        import torch

        by_kind: dict[tuple[Any, Any], dict[str, Any]] = {}
        for key, tensor in tensors.items():
            by_kind.setdefault((tensor.device, tensor.dtype), {})[key] = tensor.detach().reshape(())
        for (device, _), group in by_kind.items():
            # One kernel and one copy for all values of a kind; torch pins the memory that it copies into.
            values = torch.stack(list(group.values()))
            try:
                on_cpu, event = values.to("cpu", non_blocking=True), torch.Event(device)
                event.record()
            except Exception:  # a device without events: asking for the values waits for them
                on_cpu, event = values, None
            self._groups.append((list(group), on_cpu, event))

    def ready(self) -> bool:
        """Return whether `wait` would return, or raise, at once; never so for a device that cannot tell."""
        return all(values.device.type == "cpu" if event is None else event.query() for _, values, event in self._groups)

    def wait(self) -> dict[str, Number]:
        """Return the values when they are computed; other threads run meanwhile.

        Raises:
            Exception: what the accelerator says went wrong.
        """
        if self._error is not None:
            raise self._error
        found: dict[str, Number] = {}
        for keys, values, event in self._groups:
            if event is not None:
                event.synchronize()
            found.update(zip(keys, values.tolist(), strict=True))
        return {key: number for key, value in found.items() if (number := to_number(value)) is not None}


class DeviceRows:
    """Completes rows in the order in which they were logged, in a daemon thread that lives while there are any."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[DeviceCopy, Callable[[dict[str, Number]], None]]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._waiting = 0
        self._changed = threading.Condition()

    def put(self, copy: DeviceCopy, write: Callable[[dict[str, Number]], None]) -> None:
        """Call ``write`` with the values of ``copy`` when they are there."""
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="rankzero-device", daemon=True)
                self._thread.start()
            self._queue.put((copy, write))
            self._waiting += 1

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until every row is written; return whether that was so within ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._waiting == 0, timeout)

    def _run(self) -> None:
        while (row := self._next_row()) is not None:
            copy, write = row
            try:
                self._complete(copy, write)
            except Exception:  # above all a warning that was made an error: the next row is to be written all the same
                pass
            finally:
                with self._changed:
                    self._waiting -= 1
                    self._changed.notify_all()

    def _next_row(self) -> tuple[DeviceCopy, Callable[[dict[str, Number]], None]] | None:
        """Return the next row, None (and forget the thread) if none has come for a while: the run may have ended."""
        while True:
            with suppress(queue.Empty):
                return self._queue.get(timeout=_IDLE)
            with self._changed:
                if self._queue.empty():
                    self._thread = None
                    return None

    def _complete(self, copy: DeviceCopy, write: Callable[[dict[str, Number]], None]) -> None:
        try:
            values = copy.wait()
        except Exception as error:
            write({})  # what else stands in the row
            warn_user(f"the metrics {', '.join(copy.keys)} are lost: the accelerator gave no value ({error})")
        else:
            write(values)

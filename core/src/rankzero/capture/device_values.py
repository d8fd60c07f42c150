"""Log values that a GPU is still computing, without waiting: a thread writes their rows when they are ready.

Reading a value from a GPU waits for everything queued before it. So a log call queues a copy to pinned memory behind
the computation, and returns.
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
    """An asynchronous copy of one-element tensors to the CPU."""

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        """Queue the copies and return at once; errors are raised by `wait`."""
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
            # One kernel and one copy for all values of a device and dtype; torch copies to pinned memory.
            values = torch.stack(list(group.values()))
            try:
                on_cpu, event = values.to("cpu", non_blocking=True), torch.Event(device)
                event.record()
            except Exception:  # a device without events: reading the values waits for them
                on_cpu, event = values, None
            self._groups.append((list(group), on_cpu, event))

    def ready(self) -> bool:
        """Return whether `wait` would return or raise at once; always False for a device without events."""
        return all(values.device.type == "cpu" if event is None else event.query() for _, values, event in self._groups)

    def wait(self) -> dict[str, Number]:
        """Wait for the values and return them; other threads run meanwhile.

        Raises:
            Exception: the error of the accelerator.
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
    """Writes rows in the order of logging, in a daemon thread that ends when there are none."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[DeviceCopy, Callable[[dict[str, Number]], None]]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._waiting = 0
        self._changed = threading.Condition()

    def put(self, copy: DeviceCopy, write: Callable[[dict[str, Number]], None]) -> None:
        """Call ``write`` with the values of ``copy`` when they are computed."""
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="rankzero-device", daemon=True)
                self._thread.start()
            self._queue.put((copy, write))
            self._waiting += 1

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until all rows are written, for ``timeout`` seconds at most; return whether they are."""
        with self._changed:
            return self._changed.wait_for(lambda: self._waiting == 0, timeout)

    def _run(self) -> None:
        while (row := self._next_row()) is not None:
            copy, write = row
            try:
                self._complete(copy, write)
            except Exception:  # e.g. a warning that is an error: continue with the next row
                pass
            finally:
                with self._changed:
                    self._waiting -= 1
                    self._changed.notify_all()

    def _next_row(self) -> tuple[DeviceCopy, Callable[[dict[str, Number]], None]] | None:
        """Return the next row; None, which ends the thread, if there has been none for a while."""
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
            write({})  # the other values of the row
            warn_user(f"the metrics {', '.join(copy.keys)} are lost: the accelerator could not compute them ({error})")
        else:
            write(values)

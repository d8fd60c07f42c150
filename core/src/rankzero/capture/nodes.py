"""System metrics of all nodes of a job: the key-value store of the process group takes them to rank zero.

The first process of each other node starts the same measuring process as rank zero, and writes the last measurement to
the store. Rank zero reads it there and appends it to the journal.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rankzero.capture.system_metrics import SystemMetrics
from rankzero.events.run_info import SYSTEM, are_system_metrics
from rankzero.events.structs import Metrics, decode, encode
from rankzero.rank import GroupConnection, is_rank_zero, this_node

log = logging.getLogger("rankzero.system_metrics")

_EVERY = 10.0  # seconds
_STOP_TIMEOUT = 0.1  # seconds; the store may not answer


def measure_nodes(
    run_dir: Callable[[], Path], start: int, every: float | bool, append: Callable[[bytes], object]
) -> list[Measuring]:
    """Measure the node of this process, and on rank zero collect the measurements of the others.

    Args:
        run_dir: returns the run's directory; only rank zero needs it.
        start: the number of the run, the same on all ranks.
        every: the seconds between two measurements; True for 10.
        append: appends a line to the journal of rank zero.

    Raises:
        OSError: the measuring process cannot be started.
    """
    seconds = _EVERY if every is True else every
    node = this_node()
    if is_rank_zero():
        own = SystemMetrics(run_dir(), seconds)
        return [own] if node is None else [own, NodeCollector(start, node.total, seconds, append)]
    if node is not None and node.number and node.local_rank == 0:
        return [NodeSender(start, node.number, seconds)]
    return []


class NodeSender:
    """Measures another node than rank zero's, and writes the last measurement to the store of the process group."""

    def __init__(self, start: int, node: int, every: float) -> None:
        self._key = _key(start, node)
        self._pid = os.getpid()
        self._metrics = SystemMetrics(None, every)
        self._thread = threading.Thread(target=self._send, name="rankzero node", daemon=True)
        self._thread.start()
        atexit.register(self.stop)  # a thread that returns from the store while Python ends would abort the process

    def stop(self) -> None:
        """Stop measuring."""
        if os.getpid() == self._pid:
            atexit.unregister(self.stop)
            self._metrics.stop()
            self._thread.join(_STOP_TIMEOUT)

    def _send(self) -> None:
        connection = GroupConnection()
        for line in self._metrics.lines():
            try:
                if (store := connection.store()) is not None:
                    store.set(self._key, line)
            except Exception as error:
                connection.close()
                log.debug("system metrics of this node are not sent: %s", error)


class NodeCollector:
    """Appends the measurements of the other nodes to the journal of rank zero."""

    def __init__(self, start: int, total: int, every: float, append: Callable[[bytes], object]) -> None:
        self._keys = {node: _key(start, node) for node in range(1, total)}
        self._every = every
        self._append = append
        self._began = time.time()
        self._last: dict[int, bytes] = {}
        self._is_stopped = threading.Event()
        self._appending = threading.Lock()
        self._thread = threading.Thread(target=self._collect, name="rankzero nodes", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop; once this returns, nothing more is appended to the journal. Does not wait for the store."""
        with self._appending:
            self._is_stopped.set()
        self._thread.join(_STOP_TIMEOUT)  # see `NodeSender`

    def _collect(self) -> None:
        connection = GroupConnection()
        while not self._is_stopped.wait(self._every):
            try:
                if (store := connection.store()) is not None:
                    for node in self._keys:
                        self._collect_from(store, node)
            except Exception as error:
                connection.close()
                log.debug("system metrics of other nodes are not received: %s", error)

    def _collect_from(self, store: Any, node: int) -> None:
        # Not get() alone, which would wait for the node.
        if not store.check([self._keys[node]]):
            return
        line = store.get(self._keys[node])
        before = self._last.get(node)
        self._last[node] = line
        if line == before:
            return
        try:
            event = decode(line)
        except Exception as error:
            log.debug("system metrics of node %d cannot be read: %s", node, error)
            return
        if not isinstance(event, Metrics) or not are_system_metrics(event.step, event.values):
            return
        if before is None and event.time < self._began:  # torchrun restarts ranks, and keeps the store
            return
        values = {f"{SYSTEM}node{node}/{name.removeprefix(SYSTEM)}": value for name, value in event.values.items()}
        with self._appending:
            if not self._is_stopped.is_set():
                self._append(encode(Metrics(event.time, None, values)))


Measuring = SystemMetrics | NodeSender | NodeCollector


def _key(start: int, node: int) -> str:
    return f"rankzero/{start}/node/{node}"

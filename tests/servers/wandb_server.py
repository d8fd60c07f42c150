"""A W&B server on loopback for the real SDK; what it stored is compared with what was logged.

with WandbServer() as server:
    subprocess.run([...], env={**os.environ, **server.environment(tmp_path)})
    assert server.run("abc").scalars("loss") == [(0, 0.5, 1.7e9)]
    server.fail("file_stream", status(500), times=3)
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from servers.faulty_proxy import Fault
from servers.wandb_mock.artifacts import ArtifactVersion
from servers.wandb_mock.handler import Listener
from servers.wandb_mock.run import StoredRun
from servers.wandb_mock.store import Store

_RETRIED = ("GRAPHQL", "FILE_STREAM", "FILE_TRANSFER")


class Request(NamedTuple):
    """A request that came."""

    time: float
    name: str


class WandbServer:
    """The server; it can be stopped and started again on the same port, with what it had stored.

    Args:
        entity: the account that the key belongs to.
        crashed_after: a run that is not finished has crashed when nothing was heard of it for so many seconds.
    """

    def __init__(self, entity: str = "tester", crashed_after: float = 300.0) -> None:
        self.api_key = "0123456789abcdef" * 2 + "01234567"
        self.store = Store(entity, crashed_after)
        self.requests: list[Request] = []
        self.problems: list[str] = []
        """Requests that this server does not understand."""
        self._port = 0
        self._listener: Listener | None = None
        self._faults: list[tuple[str, Fault, Iterator[None]]] = []
        self._healed = threading.Event()
        self._changed = threading.Condition()
        self._starting = threading.Lock()

    def __enter__(self) -> WandbServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where it is, also while it is stopped."""
        return f"http://127.0.0.1:{self._port}"

    def environment(self, directory: Path) -> dict[str, str]:
        """What a process needs to log here soon, and to keep all its own files in a directory.

        One second is the least that the client waits: of a fraction it takes the whole seconds, and 0 as unset.
        """
        kept = {f"WANDB_{name}_DIR": str(directory / name.lower()) for name in ("CACHE", "CONFIG", "DATA", "ARTIFACT")}
        return {
            **kept,
            "WANDB_DIR": str(directory),
            "WANDB_BASE_URL": self.url,
            "WANDB_API_KEY": self.api_key,
            "WANDB_SILENT": "true",
            "WANDB_ERROR_REPORTING": "false",
            "WANDB__FILE_STREAM_TRANSMIT_INTERVAL": "1",
            **{f"WANDB__{kind}_RETRY_WAIT_MIN_SECONDS": "1" for kind in _RETRIED},
            **{f"WANDB__{kind}_RETRY_WAIT_MAX_SECONDS": "1" for kind in _RETRIED},
        }

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped since."""
        return self._listener is not None

    def start(self) -> None:
        """Listen."""
        with self._starting:
            self._listener = Listener(self, self._port) if self._port else self._listen_anywhere()
            self._port = self._listener.server_address[1]
            threading.Thread(target=self._listener.serve_forever, args=(0.05,), daemon=True).start()

    def _listen_anywhere(self) -> Listener:
        """Listen on a port that the system gives to nobody else while the server is stopped."""
        while True:
            with suppress(OSError):  # in use
                return Listener(self, random.randrange(20_000, 30_000))

    def stop(self) -> None:
        """End as a kill would: connections break, new ones are refused."""
        with self._starting:
            listener, self._listener = self._listener, None
            if listener is not None:
                listener.shutdown()
                listener.server_close()
                listener.end_connections()

    def fail(self, name: str, fault: Fault, times: int = 1 << 30) -> None:
        """From now on, let requests whose name contains ``name`` meet a fault, so many times.

        Names: ``/graphql UpsertBucket``, ``POST /files/ENTITY/PROJECT/RUN/file_stream``,
        ``PUT /run-file/ENTITY/PROJECT/RUN/PATH``, ``PUT /artifact-file/ID/PATH``, ``PUT /artifact-manifest/ID``,
        and the last three with ``GET``.
        """
        self._faults.append((name, fault, itertools.repeat(None, times)))

    def heal(self) -> None:
        """Be healthy from now on; what was stalled is let go."""
        self._faults.clear()
        healed, self._healed = self._healed, threading.Event()
        healed.set()

    def wait_for_healing(self) -> None:
        """Wait until somebody heals it."""
        self._healed.wait()

    def fault_for(self, name: str) -> Fault | None:
        """Return the fault that a request meets, if any."""
        self.requests.append(Request(time.time(), name))
        return next((fault for part, fault, left in self._faults if part in name and next(left, 0) is None), None)

    def note_change(self) -> None:
        """Have those who wait for something look again."""
        with self._changed:
            self._changed.notify_all()

    def until(self, condition: Callable[[WandbServer], Any], timeout: float = 30.0) -> Any:
        """Wait until a condition is true, which may raise a KeyError before; return what it is."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while not (result := self._try(condition)):
                assert self._changed.wait(max(0.0, deadline - time.monotonic())), "this did not happen in time"
        return result

    def _try(self, condition: Callable[[WandbServer], Any]) -> Any:
        try:
            return condition(self)
        except KeyError:
            return None

    def count(self, name: str) -> int:
        """How many requests came whose name contains ``name``."""
        return sum(name in request.name for request in self.requests)

    def run(self, run_id: str) -> StoredRun:
        """Return the run that has an id; KeyError if there is none."""
        with self.store.lock:
            return {run.id: run for run in self.store.runs.values()}[run_id]

    def artifact(self, name: str, project: str = "uncategorized") -> ArtifactVersion:
        """Return the version that ``name:alias`` means; KeyError if there is none."""
        with self.store.lock:
            found = self.store.artifacts.find(self.store.entity, project, name)
        if found is None:
            raise KeyError(name)
        return found

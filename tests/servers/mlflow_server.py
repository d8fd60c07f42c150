"""A real ``mlflow server`` on loopback: a SQLite database, artifacts through the server."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import IO

from filelock import FileLock
from waiting import A_WHILE


class MlflowServer:
    """The server; it can be killed, and started again on the same port with its data.

    Args:
        directory: the directory of its data.
        workers: the number of processes; MLflow's default is four, but one starts faster.
        backend: the URI of its store; a SQLite database in ``directory`` if not given.
        environment: additional environment variables.
    """

    def __init__(self, directory: Path, workers: int = 1, backend: str | None = None, **environment: str) -> None:
        self.port = _free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.database = directory / "server.db"
        self._backend = backend or f"sqlite:///{self.database}"
        self._directory = directory
        self._workers = workers
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        arguments = {
            "--host": "127.0.0.1",
            "--port": str(self.port),
            "--workers": str(self._workers),
            "--backend-store-uri": self._backend,
            "--artifacts-destination": str(self._directory / "artifacts"),
        }
        few_processes = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # or it starts seven more
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", **few_processes, **self._environment}
        environment.pop("PYTEST_CURRENT_TEST", None)  # MLflow does other things in its own tests
        environment.pop("TRAINING_DIRECTORY", None)  # `Training` kills processes with it
        with open(self._directory / "server.log", "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *(each for pair in arguments.items() for each in pair)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._directory,
                env=environment,
                start_new_session=True,
            )
        deadline = time.monotonic() + A_WHILE
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"mlflow server did not start:\n{(self._directory / 'server.log').read_text()}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=1):
                return True
        except (urllib.error.URLError, OSError):
            return False

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """Kill the server and all its workers."""
        if self._process is not None:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait(A_WHILE)
            self._process = None


def shared_directory(tmp_path_factory) -> Path:
    """Return a directory that all workers of pytest-xdist share."""
    base = tmp_path_factory.getbasetemp()
    directory = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "mlflow"
    directory.mkdir(exist_ok=True)
    return directory


def empty_database(directory: Path) -> Path:
    """Return a database with MLflow's tables, whose creation takes three seconds; it is made once in a directory."""
    from mlflow import MlflowClient

    made, path = directory / "made.db", directory / "mlflow.db"
    with FileLock(f"{path}.lock"), chdir(directory):  # where the first experiment keeps its artifacts
        if not path.exists():
            MlflowClient(f"sqlite:///{made}").search_experiments()
            shutil.copy(made, path)
    return path


@contextmanager
def shared_server(directory: Path, database: Path) -> Iterator[MlflowServer]:
    """Yield a server that all processes with this directory share: the first starts it, the last kills it.

    Args:
        directory: the directory of its data.
        database: a SQLite database with MLflow's tables to begin with.
    """
    server, address = MlflowServer(directory), directory / "address"
    with open(directory / "users", "a+") as users:
        with FileLock(directory / "lock"):
            if _is_only_user(users):
                shutil.copy(database, server.database)
                server.start()
                _started.append(server)
                address.write_text(f"{server.uri} {server.pid}")
            server.uri, pid = address.read_text().split()
            fcntl.lockf(users, fcntl.LOCK_SH)
        yield server
        with FileLock(directory / "lock"):
            if _is_only_user(users):
                os.killpg(int(pid), signal.SIGKILL)


_started: list[MlflowServer] = []  # a Popen that is deleted while its process runs warns


def _is_only_user(users: IO[str]) -> bool:
    try:
        fcntl.lockf(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])

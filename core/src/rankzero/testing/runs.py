"""Log and deliver the runs of `DeliveryContract`, also in processes that are killed."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from rankzero.delivery.courier import Courier
from rankzero.events.structs import Metrics
from rankzero.journal.tail import read_events
from rankzero.loggers.base import Logger
from rankzero.run.run import Run
from rankzero.run.start import start
from rankzero.rundir.layout import JOURNAL
from rankzero.rundir.positions import reject_list
from rankzero.testing.samples import samples
from rankzero.testing.tracked import Point

TIMEOUT = 240.0
"""Seconds after which a call counts as hanging, also on a busy machine."""

KINDS = ("image", "table", "text", "artifact", "checkpoint", "tags")
"""The kinds of samples in a run, if its tracker keeps them."""

_PROGRAM = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "function, arguments = pickle.load(sys.stdin.buffer); function(*arguments)"
)


class EagerCourier(Courier):
    """Retries after a short pause."""

    def _sleep(self, seconds: float) -> None:
        time.sleep(min(seconds, 0.02))


def log_rows(run: Run, *steps: int) -> None:
    """Log a row of metrics for each step, and check that no call is slow."""
    took = []
    for step in steps:
        began = time.perf_counter()
        run.log_metrics({"loss": step / 3, "steps": step}, step, epoch=step // 10)
        took.append(time.perf_counter() - began)
    slow = sorted(took)[:-1]  # one call may be slow because the machine is busy
    assert max(slow, default=0.0) < 1.0, f"calls of log_metrics() took {slow[-1]:.1f} s"


def log_everything(run: Run, directory: Path, kinds: Collection[str]) -> None:
    """Log a sample of each of these kinds between rows of metrics."""
    run.log_hyperparams({"lr": 0.1, "net": {"depth": 3}})
    log_rows(run, *range(20))
    for sample in samples(directory / "samples"):
        if sample.kind in kinds:
            sample.log(run)
    log_rows(run, *range(20, 40))
    run.log_hyperparams({"late": True})


def log_and_be_killed(
    logger: tuple[type[Logger], Any, Any], directory: Path, run_id: str, kinds: Collection[str]
) -> None:
    """Train in a separate process, which is killed after its last call."""
    cls, arguments, options = logger
    log_everything(start_run([cls(*arguments, **options)], directory, run_id), directory, kinds)
    os.kill(os.getpid(), signal.SIGKILL)


def deliver_in_process(logger: tuple[type[Logger], Any, Any], run_dir: Path, key: str) -> None:
    """Deliver a run in a separate process."""
    cls, arguments, options = logger
    EagerCourier(run_dir, key, lambda: cls(*arguments, **options), follow=False, grace_period=TIMEOUT).run()


def start_run(loggers: list[Logger], directory: Path, run_id: str, delivery: str = "process") -> Run:
    """Start a run below a directory."""
    return start(loggers, project="contract", dir=directory / "runs", run_id=run_id, delivery=delivery)


def in_process(function: Callable[..., None], *arguments: Any) -> subprocess.Popen[bytes]:
    """Call a function of this module in a new process."""
    process = subprocess.Popen([sys.executable, "-c", _PROGRAM], stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(pickle.dumps(sys.path) + pickle.dumps((function, arguments)))
    process.stdin.close()
    return process


def points_logged(run_dir: Path) -> dict[str, list[Point]]:
    """Return the metrics in a run's journal."""
    points: dict[str, list[Point]] = {}
    for _, event in read_events(run_dir / JOURNAL):
        if isinstance(event, Metrics):
            for name, value in event.numbers().items():
                points.setdefault(name, []).append(Point(event.step, value, event.time))
    return points


def rejected(run_dir: Path, key: str) -> list[dict[str, Any]]:
    """Return the entries of a reject list."""
    path = reject_list(run_dir, key)
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

"""Errands: one run to be brought to one logger from the command line, by a courier in a thread of this process.

A logger is made again from what the run's journal says of it. If another courier serves it already, it is left
to that one and only watched.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rankzero.config import resolve
from rankzero.courier import Courier, GaveUpError
from rankzero.errors import ConfigError, RankzeroError
from rankzero.events import Start
from rankzero.journal import JOURNAL, Tail, read_start
from rankzero.logger import RunInfo
from rankzero.options import LoggerSpec, check_options, expand_secrets, secret_values
from rankzero.orders import Orders, make_logger
from rankzero.plugins import get_plugins
from rankzero.position import Position, load_position, reject_list
from rankzero.rank import RANK_VARIABLES
from rankzero.runs import Delivered, complete_size

PATIENCE = 60.0
"""For how many seconds a tracker may fail before an errand is given up."""

_HANGING = 600.0  # seconds without a word from the SDK, which may be uploading something large
_LAST_BATCH = 10.0  # seconds for the batch on its way when an errand is told to stop
_COMMAND_LINE = "the command line"
_FOREVER = 1e9
_START = b'{"type":"start",'


def act_as_rank_zero() -> None:
    """Deliver whichever rank the launcher of this shell says that this is: a Logger does nothing on the others."""
    for variable in RANK_VARIABLES:
        os.environ.pop(variable, None)


class RecordedLoggers:
    """The loggers that a run was to go to, as its journal tells; looking again reads only what is new."""

    def __init__(self, run_dir: Path) -> None:
        self._journal = run_dir / JOURNAL
        self._offset = 0
        self._found: dict[str, dict[str, Any]] = {}

    def look(self) -> dict[str, dict[str, Any]]:
        """Return key → ``{"plugin": name, "options": {…}}``."""
        tail = Tail(self._journal, self._offset)
        try:
            while lines := tail.read():
                for line in lines:
                    event = line.decode() if line.data.startswith(_START) else None
                    if isinstance(event, Start):
                        self._found.update(event.loggers)
        finally:
            tail.close()
        self._offset = tail.offset
        return self._found


def choose_loggers(
    run_dir: Path,
    names: Sequence[str],
    options: Mapping[str, Any],
    recorded: RecordedLoggers | None = None,
) -> list[LoggerSpec]:
    """Return the loggers to deliver a run to.

    Args:
        run_dir: the run's directory.
        names: keys of loggers of this run, or names of plugins; none for all that the run was to go to.
        options: added to those that the journal or a config file has for each of them.
        recorded: what is known of the run from before.

    Raises:
        ConfigError: none is known, or one cannot be made again.
    """
    known = (recorded or RecordedLoggers(run_dir)).look()
    if not names and not known:
        raise ConfigError(f"{run_dir} names no logger; say where it is to go: --to NAME")
    return [_choose(run_dir, key, known.get(key), options) for key in names or known]


def _choose(run_dir: Path, key: str, recorded: Mapping[str, Any] | None, options: Mapping[str, Any]) -> LoggerSpec:
    if recorded is None:
        return logger_from_config(key, options)
    if "plugin" not in recorded:
        made = recorded.get("class", "a class")
        raise ConfigError(
            f"the logger {key!r} of {run_dir} was made in the training script ({made}) and cannot be made again "
            "here; name a plugin instead: --to NAME"
        )
    source = f"{run_dir / JOURNAL} (or --option)"
    return LoggerSpec(key, recorded["plugin"], {**recorded.get("options", {}), **options}, source=source)


def logger_from_config(name: str, options: Mapping[str, Any]) -> LoggerSpec:
    """Return the logger ``name`` with the options that a config file has for it, and those given on top."""
    spec = resolve({name: dict(options)}).loggers[0]
    spec.source = _COMMAND_LINE
    spec.option_sources.update(dict.fromkeys(options, _COMMAND_LINE))
    return spec


def prepare(run_dir: Path, spec: LoggerSpec) -> Orders:
    """Return the orders for a courier.

    Raises:
        RankzeroError: the plugin cannot be loaded, or does not take these options.
    """
    logger_class = get_plugins().load_logger(spec.plugin or spec.key, spec.source)
    check_options(spec, logger_class)
    secrets = secret_values(spec.options, logger_class.secret_options, spec.source)
    options = expand_secrets(spec.options, spec.source)
    return Orders(run_dir, spec.key, spec.plugin or spec.key, (), options, secrets, _FOREVER, sys.path)


class Errand:
    """One run on its way to one logger; `tend` it until it is over.

    Args:
        orders: which run, and which logger made how.
        follow: go on until the run has ended; otherwise deliver what is there now.
        patience: for how many seconds the tracker may fail, None for ever.
    """

    def __init__(self, orders: Orders, *, follow: bool = False, patience: float | None = PATIENCE) -> None:
        self.run_dir = orders.run_dir
        self.key = orders.key
        start = read_start(self.run_dir / JOURNAL)
        self.title = f"{start.run.name if start else self.run_dir.name} → {self.key}"
        """How it is called, for people."""
        self.error: str | None = None
        """Why it ended early, if it did."""
        self.is_elsewhere = False
        """Whether another courier has it."""
        self._follow = follow
        self._patience = patience
        self._began = time.time()
        self._failing_since: float | None = None
        self._target = complete_size(self.run_dir)
        self._stopped_at: float | None = None
        self._courier = Courier(
            orders.run_dir,
            orders.key,
            lambda: make_logger(orders),
            follow=follow,
            linger=orders.linger,
            secrets=orders.secrets,
            on_failure=_tell_plugins,
        )
        self._thread = threading.Thread(target=self._run, name=f"rankzero-{self.key}", daemon=True)

    @property
    def position(self) -> Position:
        """How far it is."""
        return load_position(self.run_dir, self.key)

    @property
    def target(self) -> int:
        """How far it is to go, in bytes of the journal."""
        if self._follow:
            self._target = complete_size(self.run_dir)
        return self._target

    @property
    def delivered(self) -> Delivered:
        """How far it is."""
        position = self.position
        return Delivered(position, max(0, self.target - position.offset))

    def tend(self) -> bool:
        """Start the courier when nobody else has the errand, end it when it hangs; return whether it is over."""
        if self._thread.ident is None:
            self.is_elsewhere = is_served(self.run_dir, self.key)
            if self.is_elsewhere:
                return not self._follow and not self.delivered.behind
            self._thread.start()
        elif not self._thread.is_alive():
            return True
        elif self._stopped_at is not None:
            return time.monotonic() - self._stopped_at > _LAST_BATCH  # the SDK does not come back
        self._give_up_if_hopeless()
        return False

    def stop(self) -> None:
        """End it after the batch that is on its way."""
        if self._stopped_at is None:
            self._stopped_at = time.monotonic()
        self._courier.stop()

    def join(self) -> None:
        """Wait, for some seconds at most, until it is stopped."""
        if self._thread.ident is not None and self._stopped_at is not None:
            self._thread.join(max(0.0, self._stopped_at + _LAST_BATCH - time.monotonic()))

    @property
    def rejects(self) -> Path:
        """The list of events that the tracker refused for good."""
        return reject_list(self.run_dir, self.key)

    def _run(self) -> None:
        try:
            self._courier.run()
        except (GaveUpError, RankzeroError, OSError) as error:
            self.error = str(error)
        except Exception as error:
            self.error = f"{type(error).__name__}: {error}"

    def _give_up_if_hopeless(self) -> None:
        if self._patience is None:
            return
        position, now = self.position, time.time()
        if not position.problem or position.updated < self._began:
            self._failing_since = None
        elif self._failing_since is None:
            self._failing_since = now
        is_failing = self._failing_since is not None and now - self._failing_since > self._patience
        silence = now - max(position.updated, self._began)
        if is_failing:
            self.error = position.problem
            self.stop()
        elif silence > max(self._patience, _HANGING):
            self.error = f"no word from the tracker for {silence:.0f} s; give it longer with --timeout"
            self.stop()


def is_served(run_dir: Path, key: str) -> bool:
    """Return whether a courier delivers this run to this logger now."""
    try:
        with FileLock(run_dir / f"{key}.courier.lock", timeout=0):
            return False
    except Timeout:
        return True


def _tell_plugins(run: RunInfo, key: str, error: Exception, retrying: bool) -> None:
    get_plugins().notify("rankzero_delivery_failed", run_info=run, logger=key, error=error, retrying=retrying)

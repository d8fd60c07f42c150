"""`BaseRun`: a run as one process has it, from its identity on any rank to forks and copies."""

from __future__ import annotations

import logging
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from rankzero.capture.console import Capture
from rankzero.capture.model_watch import ModelWatch
from rankzero.capture.nodes import Measuring, measure_nodes
from rankzero.events.run_info import RunInfo
from rankzero.events.structs import Console
from rankzero.loggers.aggregate import StepAggregator
from rankzero.loggers.verbs import Verbs
from rankzero.media.store import MediaStore
from rankzero.messages import OTHER_NAMES, OnceWarner, describe, name_in_rankzero, warn_user
from rankzero.plugins.registry import get_plugins
from rankzero.rank import is_rank_zero
from rankzero.run.event_writer import EventWriter
from rankzero.run.file_writer import FileWriter
from rankzero.run.identity import UNKNOWN, Announcement
from rankzero.run.metric_writer import MetricWriter
from rankzero.run.owner import Owner
from rankzero.secrets import scrub

log = logging.getLogger("rankzero")


class _OtherName:
    """An attribute that a Run does not have, with the name of a call of another tool: the error says what to write.

    A ``__getattr__`` could do the same, but CPython does not cache the attributes of a class that has one: a log call
    took a tenth longer.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, run: object, owner: type) -> NoReturn:
        message = f"a Run has no attribute {self._name!r}.{name_in_rankzero(self._name, ())}"
        raise AttributeError(message, name=self._name, obj=run)


class BaseRun(Verbs):
    """Knows the identity of a run on all ranks, and where it is logged.

    Args:
        info: the identity, or on other ranks a function that asks rank zero for it.
        writer: writes to the journal; None if this process does not log the run.
        keys: the keys of the loggers.
        step: the last step of a metric, -1 if there is none.
        resumed: whether the run existed before this process started it.
    """

    group_separator = "/"

    def __init__(
        self,
        info: RunInfo | Callable[[], RunInfo],
        writer: EventWriter | None = None,
        *,
        keys: tuple[str, ...] = (),
        step: int = -1,
        resumed: bool = False,
    ) -> None:
        self._known_info = info
        self._is_active = writer is not None
        self._keys = keys
        self._step = step
        self._loop_step: Callable[[], int | None] | None = None
        self._next_tick = 0.0
        self._is_silenced = False
        self._is_ending = False
        self._waits_at_exit = False
        self._status = "success"
        self._error = ""
        self._owner: Owner | None = None
        self._announcement: Announcement | None = None
        self._elsewhere: Callable[[], RunInfo] | None = None
        self._measuring: list[Measuring] = []
        self._closing: list[Callable[[str], object]] = []
        self._watches: dict[int, ModelWatch] = {}
        self._aggregator = StepAggregator()
        self._warner = OnceWarner()
        self.finish_timeout = 60.0
        """For how many seconds `finish` waits for the delivery by default."""
        self.resumed = resumed
        """Whether the run existed before this process started it."""
        if writer is not None:
            self._write_to(writer)

    def _write_to(self, writer: EventWriter) -> None:
        self._writer = writer
        self._journal = writer.journal
        self._media = MediaStore(self.dir, self._warner)
        self._metrics = MetricWriter(writer, self._media, self._warner)
        self._files = FileWriter(writer, self._media)
        writer.filter = get_plugins().event_filter(self)
        self._is_direct = writer.filter is None  # whether plain numbers may go to the journal directly

    # Identity

    @property
    def id(self) -> str:
        """The run's identity in every tracker: unique, and the same on all ranks."""
        return self._info.id

    @property
    def name(self) -> str:
        """A readable name, the same on all ranks."""
        return self._info.name

    @property
    def project(self) -> str:
        """The project of the run."""
        return self._info.project

    version = id  # as Lightning calls it

    @property
    def dir(self) -> Path:
        """The run's directory; on other ranks it need not exist."""
        return Path(self._info.dir)

    @property
    def save_dir(self) -> str:
        """The run's directory; Lightning saves checkpoints in its ``NAME/ID/checkpoints``."""
        return self._info.dir

    log_dir = save_dir

    @property
    def root_dir(self) -> str:
        """The directory of the project's runs."""
        return str(self.dir.parent)

    @property
    def loggers(self) -> tuple[str, ...]:
        """The keys of the loggers that get this run."""
        return self._keys

    @property
    def step(self) -> int:
        """The last step of a metric, -1 before the first."""
        return self._step

    @property
    def is_active(self) -> bool:
        """Whether log calls are recorded: on rank zero, unless logging is disabled."""
        return self._is_active

    def __init_subclass__(cls) -> None:
        for name in OTHER_NAMES:
            if not hasattr(cls, name):
                setattr(cls, name, _OtherName(name))

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if name not in OTHER_NAMES or hasattr(type(self), name)]

    def __repr__(self) -> str:
        info = self._known_info  # frameworks print their arguments, and on other ranks reading the id may wait
        return (
            f"<rankzero.Run {info.name} ({info.id}) in {info.dir}>" if isinstance(info, RunInfo) else "<rankzero.Run>"
        )

    # Ranks

    @property
    def _info(self) -> RunInfo:
        if self._announcement is not None and self._may_log():
            self._announcement.publish()  # other ranks may wait for it, and the next log call may be late
        info = self._known_info
        if not isinstance(info, RunInfo):
            info = info()
            if info.id != UNKNOWN:
                self._known_info = info
        return info

    def _may_log(self) -> bool:
        if self._is_active and not self._is_silenced and not is_rank_zero():
            self._is_silenced = True
            self._deactivate()
        return self._is_active

    def _deactivate(self) -> None:
        # The launcher set the rank late; the run that was started here is discarded.
        if self._owner is not None and self._owner.is_this_process():
            self._warner.warn("rank", f"this process turned out not to be rank zero; its run {self.name} ends here")
            self.finish("aborted", timeout=0.0)
            if self._elsewhere is not None:
                self._known_info = self._elsewhere
        self._is_active = False

    def _tick(self, now: float) -> bool:
        """Do periodic checks, about once a second; return whether the run may continue to log."""
        self._next_tick = now + 1.0
        if not self._may_log():
            return False
        try:
            if self._announcement is not None:
                self._announcement.publish()
            self._writer.journal.check()
            if self._owner is not None:
                self._owner.supervise()
        except Exception as error:  # the current row is not affected
            self._warner.warn("tick", f"rankzero cannot supervise the couriers of {self.name}: {describe(error)}")
        return True

    @abstractmethod
    def finish(self, status: str | None = None, timeout: float | None = None) -> None:
        """End the run."""

    # The process that starts the run

    def own(self, owner: Owner, announcement: Announcement, elsewhere: Callable[[], RunInfo]) -> None:
        """Make this process the owner of the run, which alone ends it; called by `rankzero.start`."""
        self._owner = owner
        self._announcement = announcement
        self._elsewhere = elsewhere

    def record_console(self, secrets: Sequence[str] = ()) -> None:
        """Capture the console until the run ends, and mask ``secrets``; called by `rankzero.start`."""

        def record(text: str, stream: str) -> None:
            now = time.time()
            if not self._is_active or (now > self._next_tick and not self._tick(now)):
                return
            self._writer.write_console(Console(now, scrub(text, secrets), stream))

        if self._owner is not None:
            self._owner.console = Capture(record)

    def measure_system(self, every: float | bool, start: int) -> None:
        """Measure the system of all nodes until the run ends; called by `rankzero.start`: see `measure_nodes`."""
        try:
            self._measuring = measure_nodes(lambda: self.dir, start, every, lambda line: self._journal.append(line))
        except Exception as error:
            log.debug("the system is not measured: %s", error)

    def _stop_measuring(self) -> None:
        for each in self._measuring:
            each.stop()
        self._measuring = []

    # Other processes

    def after_fork(self) -> None:
        """Continue in a forked child, which appends to the same journal and does not end the run."""
        self._metrics.after_fork()
        with suppress(Exception):
            self._aggregator.take()  # the parent logs the metrics that it has buffered
        self._announcement = None
        if self._owner is not None:
            self._owner.after_fork()

    def __getstate__(self) -> dict[str, Any]:
        return {
            "info": self._info,
            "is_active": self._is_active,
            "step": self._step,
            "keys": self._keys,
            "resumed": self.resumed,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        # The copy appends to the journal of the original, if this process is rank zero.
        info, is_active, writer = state.pop("info"), state.pop("is_active"), None
        if is_active and is_rank_zero():
            get_plugins().load_hooks()
            try:
                writer = EventWriter(info)
            except OSError as error:
                warn_user(f"the run {info.name} cannot be logged to from here: {info.dir} {error.strerror}")
        self.__init__(info, writer, **state)  # type: ignore[misc]

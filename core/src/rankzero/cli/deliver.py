"""``rankzero deliver``: deliver all runs below a directory, once or continuously."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from rankzero.cli import terminal
from rankzero.cli.arguments import To, Trust, consent, runs_directory
from rankzero.cli.sync import deliver_now, poll, progress_bars
from rankzero.messages import OnceWarner, reason
from rankzero.waiting import wait_until

if TYPE_CHECKING:
    from rankzero.config.logger_options import LoggerSpec
    from rankzero.delivery.destinations import RecordedLoggers
    from rankzero.delivery.sync_job import SyncJob

log = logging.getLogger("rankzero.deliver")

_POLL = 0.5
_SEARCH_EVERY = 2.0  # seconds between two looks for new runs
_TRY_AGAIN_AFTER = 60.0
_END_TIMEOUT = 10.0  # seconds to deliver the ends of runs
_MOST_ENDED_RUNS = 8  # at once; those that are still written are all served


def deliver(
    directory: Annotated[Path | None, typer.Argument(help="Where runs are kept.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on with runs that are written or appear later.")] = False,
    to: To = None,
    trust: Trust = False,
) -> None:
    """Deliver all runs below a directory.

    With --watch it goes on until Ctrl-C or SIGTERM, e.g. on a login node for compute nodes without internet.

    Runs that you did not start on this machine go where your own configuration sends them. You are
    asked about one whose journal names another destination; with --watch and without a terminal it is left out, with a
    message, unless --trust is given.

    Example: rankzero deliver --watch /shared/rankzero-runs

    The exit status is 1 if something is not, or could not be, delivered; 0 when watching is ended.
    """
    from rankzero.errors import RankzeroError, RunNotFoundError

    directory = runs_directory(directory, may_be_missing=watch)
    if watch:  # perhaps before the first run
        from rankzero.rundir.finding import find_runs

        Watch(str(directory), partial(find_runs, directory), to or (), consent(trust) if trust else None).run()
        return
    if not directory.is_dir():
        raise RunNotFoundError(f"there is no directory {directory} to deliver from")
    from rankzero.config.prepared import prepare
    from rankzero.delivery.destinations import choose_loggers
    from rankzero.delivery.sync_job import LoginCheck, SyncJob
    from rankzero.rundir.finding import find_runs

    jobs, problems, login, agreed = [], list[str](), LoginCheck(), consent(trust)

    def leave_out(error: Exception) -> None:
        is_clear = isinstance(error, RankzeroError)
        problems.append(str(error) if is_clear else _cannot_be_delivered(run_dir, error))
        terminal.say(f"rankzero: {problems[-1]}", err=True)

    for run_dir in find_runs(directory):
        try:
            for spec in choose_loggers(run_dir, to or (), {}, None, agreed, leave_out):
                try:
                    prepared = prepare(spec, online=True)
                    login.check(run_dir, prepared)
                    jobs.append(SyncJob(run_dir, prepared))
                except Exception as error:  # whatever is wrong with one logger, the others get the run
                    leave_out(error)
        except Exception as error:  # whatever is wrong with one run, the others are delivered
            leave_out(error)
    if not deliver_now(jobs) or problems:
        raise typer.Exit(1)


def _cannot_be_delivered(run_dir: Path, error: Exception) -> str:
    return f"{run_dir} cannot be delivered: {type(error).__name__}: {error}"


class _Job(NamedTuple):
    """A sync job that is under way."""

    sync: SyncJob
    bar: Any
    is_live: bool
    """Whether the run may still be written."""


class Watch:
    """Delivers runs, and what comes later, until a signal ends it.

    Args:
        what: what is watched, for messages.
        find: returns the directories of the runs; called every few seconds.
        to: the loggers to deliver to, instead of the runs' own.
        consent: asks the user to approve a destination.
        end: called when a signal has come; what it adds to the runs is delivered, too.
    """

    def __init__(
        self,
        what: str,
        find: Callable[[], Iterable[Path]],
        to: Sequence[str],
        consent: Callable[[str], bool] | None = None,
        end: Callable[[], None] | None = None,
    ) -> None:
        self._what = what
        self._find = find
        self._consent = consent
        self._to = to
        self._end = end
        self._jobs: dict[tuple[Path, str], _Job] = {}
        self._recorded: dict[Path, RecordedLoggers] = {}
        self._not_before: dict[tuple[Path, str], float] = {}
        self._warner = OnceWarner(log.warning)
        self._stopping = threading.Event()

    def run(self) -> None:
        """Watch until a signal comes."""
        from rankzero.delivery.sync_job import act_as_rank_zero
        from rankzero.plugins.registry import get_plugins

        act_as_rank_zero()
        with _stopped_by_signals(self._stopping), progress_bars() as bars:
            _log_to(bars.console)
            for problem in get_plugins().load_hooks():
                log.warning("%s", problem)
            log.info("watching %s; end with Ctrl-C", self._what)
            searched = 0.0
            while not self._stopping.is_set():
                if time.monotonic() - searched > _SEARCH_EVERY:
                    self._search(bars)
                    searched = time.monotonic()
                self._poll(bars)
                self._stopping.wait(_POLL)
            if self._end is not None:
                self._end()
                wait_until(lambda: not self._poll(bars), _END_TIMEOUT, _POLL)
            for job in self._jobs.values():
                job.sync.stop()
            for job in self._jobs.values():
                job.sync.join()
            log.info("stopped; what is not delivered waits")

    def _search(self, bars: Any) -> None:
        from rankzero.delivery.destinations import RecordedLoggers, choose_loggers
        from rankzero.errors import RankzeroError

        for run_dir in self._find():
            try:
                recorded = self._recorded.setdefault(run_dir, RecordedLoggers(run_dir))
                for spec in choose_loggers(run_dir, self._to, {}, recorded, self._consent, self._warn_of):
                    try:
                        self._begin(run_dir, spec, bars)
                    except RankzeroError as error:
                        self._warn_of(error)
            except (RankzeroError, OSError) as error:
                self._warn_of(error)
            except Exception as error:  # whatever is wrong with one run, the others are delivered
                problem = _cannot_be_delivered(run_dir, error)
                self._warner.warn(problem, problem)

    def _warn_of(self, error: Exception) -> None:
        self._warner.warn(str(error), str(error))

    def _begin(self, run_dir: Path, spec: LoggerSpec, bars: Any) -> None:
        """Begin a sync job if there is something to do and room for it."""
        from rankzero.config.prepared import prepare
        from rankzero.delivery.sync_job import SyncJob
        from rankzero.rundir.finding import delivered, run_status

        destination = run_dir, spec.key
        if destination in self._jobs or time.monotonic() < self._not_before.get(destination, 0.0):
            return
        if delivered(run_dir, [spec.key])[spec.key].is_complete:
            return
        is_live = run_status(run_dir) in ("running", "unknown")
        if not is_live and sum(not job.is_live for job in self._jobs.values()) >= _MOST_ENDED_RUNS:
            return
        job = SyncJob(run_dir, prepare(spec, online=True), follow=True, timeout=None)
        self._jobs[destination] = _Job(job, bars.add_task(terminal.printable(job.title), total=None, note=""), is_live)
        log.info("%s begins", job.title)

    def _poll(self, bars: Any) -> int:
        """Poll the jobs; return how many go on."""
        for destination, (job, bar, _) in list(self._jobs.items()):
            if not poll(job, bars, bar):
                continue
            bars.remove_task(bar)
            del self._jobs[destination]
            if job.shortfall and (why := job.failure):  # without one, the run was resumed since
                log.warning("%s: %s; tried again in %.0f s", job.title, reason(why), _TRY_AGAIN_AFTER)
                self._not_before[destination] = time.monotonic() + _TRY_AGAIN_AFTER
            elif left_out := job.rejection or job.damage:
                log.warning("%s is delivered; %s", job.title, left_out)
            else:
                log.info("%s is delivered: %s", job.title, terminal.counted(job.position.line, "event"))
        return len(self._jobs)


@contextmanager
def _stopped_by_signals(stopping: threading.Event) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        stopping.set()

    former = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _make_printable(record: logging.LogRecord) -> bool:
    record.msg, record.args = terminal.printable(record.getMessage()), ()
    return True


def _log_to(console: Any) -> None:
    """Show what happens: above the progress bars on a terminal, as lines with a time elsewhere."""
    if console.is_terminal:
        from rich.logging import RichHandler

        handler: logging.Handler = RichHandler(console=console, show_path=False, log_time_format="%H:%M:%S")
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handler.addFilter(_make_printable)
    root = logging.getLogger("rankzero")
    root.addHandler(handler)
    root.setLevel(logging.INFO)

"""``rankzero sync``: deliver runs now."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rankzero.cli import terminal
from rankzero.cli.arguments import Json, Options, To, Trust, chosen_run, consent, load_hooks, parse_options
from rankzero.messages import reason

if TYPE_CHECKING:
    from pathlib import Path

    from rankzero.config.prepared import PreparedLogger
    from rankzero.delivery.sync_job import SyncJob
    from rankzero.delivery.verification import Comparison

_POLL = 0.1


def sync(
    runs: Annotated[list[str], typer.Argument(metavar="RUN", help="Directories, ids or names of runs, as for show.")],
    to: To = None,
    option: Options = None,
    timeout: Annotated[float, typer.Option(help="Seconds to keep trying a tracker that fails.")] = 60.0,
    again: Annotated[
        bool, typer.Option("--again", help="Deliver from the beginning, also what was delivered.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read the metrics back from the trackers, and compare them.")
    ] = False,
    trust: Trust = False,
    json: Json = False,
) -> None:
    """Deliver runs now.

    They go to the loggers that they were started with, or to others. What a logger already has is not sent
    again, unless you say so with --again, as when a tracker was wiped. With other options a logger is another
    destination, which gets all of the run. A run that is being delivered by another process is watched.

    A logger that is not installed, or whose tracker refuses your login, is left out with a message, unless you name it
    with --to; other failures are retried.

    Example: rankzero sync rankzero-runs/digits/2025… --to csv

    A run that you did not start on this machine goes where your own configuration sends it. Where its journal names
    another destination, you are asked first; without a terminal it needs --trust.

    With --verify each metric in the tracker is then compared with the journal: what is missing, doubled or different is
    named.

    The exit status is 1 if something could not be delivered, is not delivered yet, or differs.
    """
    from rankzero.config.prepared import prepare
    from rankzero.delivery.destinations import choose_loggers
    from rankzero.delivery.sync_job import LoginCheck, SyncJob, reset_position
    from rankzero.errors import ConfigError, PluginError, RankzeroError

    options = parse_options(option)
    agreed = consent(trust)
    run_dirs = [chosen_run(run) for run in runs]
    # All loggers are checked first: a wrong name at the end would come too late.
    problems: list[RankzeroError] = []
    chosen = ((each, choose_loggers(each, to or (), options, None, agreed, problems.append)) for each in run_dirs)
    prepared, login = [], LoginCheck()
    for run_dir, spec in [(run_dir, spec) for run_dir, specs in chosen for spec in specs]:
        try:
            logger = prepare(spec, online=True)
            login.check(run_dir, logger, again=again)
        except (ConfigError, PluginError) as error:
            if to:
                raise
            problems.append(error)
        else:
            prepared.append((run_dir, logger))
    if problems and not prepared:
        raise problems[0]
    for problem in problems:
        terminal.say(f"rankzero: {problem}", err=True)
    if again:
        for run_dir, logger in prepared:
            reset_position(run_dir, logger.key)
    jobs = [SyncJob(run_dir, logger, timeout=timeout) for run_dir, logger in prepared]
    is_complete = deliver_now(jobs, "; --again sends it once more", is_silent=json) and not problems
    compared = []
    for run_dir, logger in prepared if verify else ():
        compared.append(_compare(run_dir, logger))
        if not json:
            compared[-1].print()
    is_complete &= all(each.is_equal for each in compared)
    if json:
        rows = (_as_json(job, each) for job, each in zip_longest(jobs, compared))
        terminal.print_json(list(rows))
    if not is_complete:
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Verified:
    """The comparison of a run with its tracker."""

    logger: str
    address: str | None = None
    comparisons: Sequence[Comparison] = ()
    problem: str | None = None
    """Why they cannot be compared."""

    @property
    def comparable(self) -> list[Comparison]:
        return [each for each in self.comparisons if each.is_comparable]

    @property
    def unequal(self) -> list[Comparison]:
        return [each for each in self.comparable if not each.is_equal]

    @property
    def others(self) -> list[str]:
        """The metrics that the tracker has in a form that cannot be compared."""
        return [each.name for each in self.comparisons if not each.is_comparable]

    @property
    def values(self) -> int:
        return sum(each.count for each in self.comparable)

    @property
    def is_equal(self) -> bool:
        return self.problem is None and not self.unequal

    def print(self) -> None:
        """Print the result."""
        if self.problem is not None:
            terminal.say(f"{self.logger}: cannot be verified: {self.problem}", err=True)
            return
        if self.others:
            terminal.say(f"{self.logger}: the tracker has {', '.join(self.others)} in a form that cannot be compared")
        verified = f"{terminal.counted(self.values, 'value')} of {terminal.counted(len(self.comparable), 'metric')}"
        verified += f" at {self.address}" if self.address else ""
        if self.is_equal:
            terminal.say(f"{self.logger}: verified {verified}: no difference")
            return
        terminal.say(f"{self.logger}: verified {verified}: differences in {len(self.unequal):,}:", err=True)
        for each in self.unequal:
            terminal.say(f"  {each.describe()}", err=True)

    def as_json(self) -> dict[str, Any]:
        """Return the result for ``--json``."""
        return {
            "problem": self.problem,
            "address": self.address,
            "metrics": len(self.comparable),
            "values": self.values,
            "not_comparable": self.others,
            "differences": {each.name: each.describe() for each in self.unequal},
        }


def _compare(run_dir: Path, logger: PreparedLogger) -> _Verified:
    """Read the metrics of a run back from its tracker."""
    from rankzero.delivery.verification import verify_delivery

    try:
        return _Verified(logger.key, *verify_delivery(run_dir, logger))
    except Exception as error:  # whatever is wrong with one tracker, the others are verified
        return _Verified(logger.key, problem=terminal.error_text(error))


def _as_json(job: SyncJob, verified: _Verified | None) -> dict[str, Any]:
    run = {"id": job.run_id, "name": job.run_name, "dir": str(job.run_dir.resolve()), "logger": job.key}
    problem = reason(job.shortfall) if job.shortfall else None
    outcome = {"problem": problem, "verified": verified and verified.as_json()}
    return run | job.delivered.as_json() | outcome


def deliver_now(jobs: Sequence[SyncJob], hint: str = "", *, is_silent: bool = False) -> bool:
    """Run sync jobs with a progress bar each; return whether everything arrived.

    Args:
        jobs: what to deliver.
        hint: what to say where there was nothing to deliver.
        is_silent: print nothing.
    """
    from rankzero.delivery.sync_job import act_as_rank_zero

    act_as_rank_zero()
    # What was kept offline is sent from the beginning.
    before = [0 if position.offline else position.line for position in (job.position for job in jobs)]
    load_hooks()
    try:
        with progress_bars() as bars:
            waiting = [(job, bars.add_task(terminal.printable(job.title), total=None, note="")) for job in jobs]
            while waiting:
                waiting = [(job, task) for job, task in waiting if not poll(job, bars, task)]
                time.sleep(_POLL if waiting else 0)
    finally:
        for job in jobs:
            job.stop()
        for job in jobs:
            job.join()
    if not is_silent:
        for job, lines in zip(jobs, before, strict=True):
            _report(job, lines, hint)
    return not any(job.shortfall or job.rejection or job.damage for job in jobs)


def progress_bars() -> Any:
    """Return bars for bytes to read, on standard error; nothing is shown where that is no terminal."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = terminal.console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("[yellow]{task.fields[note]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def poll(job: SyncJob, bars: Any, task: Any) -> bool:
    """Poll a sync job, and show how far it is; return whether it is over."""
    is_over = job.poll()
    position, target = job.position, job.target
    note = "another courier delivers it" if job.is_elsewhere else reason(position.problem or "")
    bars.update(task, total=target, completed=min(position.offset, target), note=terminal.escape(note))
    return is_over


def _report(job: SyncJob, lines_before: int, hint: str) -> None:
    """Print how a sync job ended."""
    why, rejection = job.shortfall, job.rejection
    if why:
        behind = terminal.counted(job.delivered.behind, "event")
        terminal.say(f"{job.title}: {behind} not delivered: {reason(why)}", err=True)
    if rejection:
        terminal.say(f"{job.run_name}: {rejection}", err=True)
    if damage := job.damage:
        terminal.say(f"{job.run_name}: {damage}", err=True)
    if why or rejection or damage:
        return
    if job.had_all:
        terminal.say(f"{job.run_name}: {job.key} has all of it already{hint}")
    else:
        position = job.position
        terminal.say(f"{job.title}: delivered, {terminal.counted(position.line - lines_before, 'event')}")
        if position.view:
            terminal.say(f"view it in {job.key}: {position.view}")

"""`start`: resolve the configuration, open the journal, start the couriers, and return a `Run`."""

from __future__ import annotations

import logging
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from rankzero.config.logger_options import START_PARAMETERS
from rankzero.config.prepared import PreparedLogger, prepare, prepare_for_later, verify
from rankzero.config.resolving import RunConfig, resolve
from rankzero.delivery.background import CourierProcess, CourierThread
from rankzero.delivery.experiment import ExperimentOfProcess, ExperimentOfThread, LiveExperiment
from rankzero.delivery.supervisor import Supervisor
from rankzero.errors import ConfigError, RunInUseError, RunNotFoundError
from rankzero.events.run_info import RunInfo
from rankzero.events.structs import Start, encode
from rankzero.journal.append import cut_torn_tail
from rankzero.journal.opening import has_journal, restore
from rankzero.journal.tail import last_step, read_start
from rankzero.plugins.registry import get_plugins
from rankzero.rank import get_rank, group_store, is_rank_zero, rank_variable, rank_zero_warn
from rankzero.run import endings, notebooks
from rankzero.run.event_writer import EventWriter
from rankzero.run.forking import fork_point, forked_lines
from rankzero.run.identity import UNKNOWN, Announcement, Identity, ask, check_id, name_of, new_id, next_start
from rankzero.run.owner import Owner
from rankzero.run.run import Run
from rankzero.rundir.finding import find_run, make_runs_directory
from rankzero.rundir.layout import JOURNAL
from rankzero.rundir.writer_lock import WriterLock
from rankzero.values import to_jsonable

log = logging.getLogger("rankzero")

_ASK_TIMEOUT = 30.0
_HOW_TO_KNOW = "set RANKZERO_RUN_ID for all ranks, or read it later"


def start(
    loggers: Any = None,
    *,
    project: str | None = None,
    name: str | None = None,
    group: str | None = None,
    parent: str | Run | None = None,
    tags: Iterable[str] | None = None,
    notes: str | None = None,
    config: Mapping[str, Any] | Any = None,
    dir: str | os.PathLike[str] | None = None,
    run_id: str | None = None,
    resume: str | None = None,
    resume_step: int | None = None,
    fork_from: str | os.PathLike[str] | Run | None = None,
    fork_step: int | None = None,
    delivery: str | None = None,
    finish_timeout: float | None = None,
    down_timeout: float | None = None,
    capture_environment: bool | None = None,
    system_metrics: float | bool | None = None,
    **options: Any,
) -> Run:
    """Start a run; returns in milliseconds, plus the time that trackers take to check the login.

    Arguments that are not given come from environment variables, then a config file, then the defaults; see
    `rankzero.config.resolving`.

    Args:
        loggers: a name; a list of names or Logger instances; a mapping name → options; the path of a TOML or
            YAML file. CSV by default.
        project: the project of the run; ``default`` by default.
        name: a readable name; derived from the id by default.
        group: the study that the run is a part of: a sweep, a cross-validation. Trackers get it as the run's
            group, or as a tag or a text with that name.
        parent: the run that this one is nested under, or its id. Trackers that nest runs do so; others show the id.
        tags: tags of the run.
        notes: a description of the run.
        config: hyperparameters; the same as a call of `Run.log_hyperparams`.
        dir: the directory for runs, ``rankzero-runs`` by default; this run is in ``dir/project/id``.
        run_id: the id of a new run, or of a run to resume.
        resume: whether to resume the run ``run_id``: ``allow`` (if it exists, the default), ``must`` (raise if it does
            not exist) or ``never`` (raise if it exists).
        resume_step: the step of the checkpoint from which training resumes; if the run ``run_id`` exists, it is rewound
            to this step, see `Run.rewind`.
        fork_from: a run, its id or its directory: a new run begins with a copy of its hyperparameters, and of its
            metrics and media up to ``fork_step``. A run that exists is continued, and not forked again.
        fork_step: the last step to copy, by default the last one of that run.
        delivery: ``process`` (deliver in a process for each logger, the default), ``thread`` (in a thread, for the
            live object in `Run.experiment`) or ``off`` (deliver later with ``rankzero deliver`` or ``sync``).
        finish_timeout: for how many seconds `Run.finish`, or the end of the process, waits for the delivery; 60 by
            default.
        down_timeout: for how many seconds it waits for a tracker that is known to be unavailable; 5 by default.
        capture_environment: whether to record the environment of the run in its directory, in a separate process:
            command line without secrets, script, git commit and changes, installed packages, user and machine. True by
            default; trackers that show the environment get it from there.
        system_metrics: the seconds between two measurements of CPU, memory, disk, network and GPUs, in a separate
            process; 10 by default. False measures nothing. The metrics have names ``system/…``, for other nodes
            ``system/node1/…``, and no step.
        **options: options for the logger, if there is exactly one.

    Raises:
        ConfigError: a setting is invalid; the message says which and where.
        PluginError: a logger is not installed, or is broken.
        RunInUseError: another living process is writing to this run.
        RunNotFoundError: ``resume="must"``, and the run does not exist; or there is no run ``fork_from``.
    """
    asked = resolve(
        loggers, project=project, name=name, group=group, parent=parent, tags=tags, notes=notes, dir=dir,
        run_id=run_id, resume=resume, resume_step=resume_step, fork_from=fork_from, fork_step=fork_step,
        delivery=delivery, finish_timeout=finish_timeout, down_timeout=down_timeout,
        capture_environment=capture_environment, system_metrics=system_metrics, options=options,
    )  # fmt: skip
    params = _hyperparams(config)
    number = next_start()
    _check_run_id(asked)
    if not is_rank_zero():
        _warn_of_rank()
        elsewhere = Run(_info_elsewhere(asked, number))
        if asked.system_metrics and not asked.disabled:
            elsewhere.measure_system(asked.system_metrics, number)
        return elsewhere
    if asked.disabled:
        info = _new_info(asked, number)
        Announcement(number, Identity(info.id, info.name, info.dir)).publish()
        return Run(info)
    _show_messages()
    loggers = [prepare_for_later(spec) if asked.delivery == "off" else verify(prepare(spec)) for spec in asked.loggers]
    plugins = get_plugins()
    for problem in plugins.load_hooks():
        rank_zero_warn(str(problem))

    source = _fork_source(asked)
    notebooks.end_run_of_same_cell()
    if asked.resume != "must":
        with suppress(OSError):  # `_take` raises the error
            make_runs_directory(asked.dir)
    info = _new_info(asked, number)
    run_dir = Path(info.dir)
    existing = _existing_start(run_dir, asked)
    lock = _take(run_dir)
    try:
        if existing is not None:
            kept = existing.run
            group, parent = info.group or kept.group, info.parent or kept.parent
            info = msgspec.structs.replace(info, name=kept.name, started=kept.started, group=group, parent=parent)
            restore(run_dir / JOURNAL)
            cut_torn_tail(run_dir / JOURNAL)
        step, is_resumed = -1 if existing is None else last_step(run_dir / JOURNAL), existing is not None
        writer = _open_journal(info, loggers, is_resumed)
        if source is not None:
            step = fork_point(source, asked.fork_step)
            for line in forked_lines(source, step, run_dir):
                writer.journal.append(line)
        run = Run(info, writer, keys=tuple(each.key for each in loggers), step=step, resumed=is_resumed)
    except BaseException:
        lock.release()
        raise
    supervisor = None
    captures = frozenset[str]().union(*(each.captures for each in loggers))
    secrets = [secret for each in loggers for secret in each.secrets]
    if asked.capture_environment:
        _capture_environment(run, info.program, secrets)
    if asked.delivery != "off":
        supervisor = _start_couriers(loggers, run_dir, asked)
    announcement = Announcement(number, Identity(run.id, run.name, str(run_dir)))
    announcement.publish()
    run.finish_timeout = asked.finish_timeout
    owner = Owner(info, writer.journal, lock, supervisor, _live_experiment(loggers, supervisor, info))
    run.own(owner, announcement, _info_elsewhere(asked, number))
    endings.end_at_exit(run, run.finish_timeout)
    notebooks.remember(run)
    if "console" in captures:
        run.record_console(secrets)
    if asked.system_metrics:
        run.measure_system(asked.system_metrics, number)
    if asked.resume_step is not None:
        run.rewind(asked.resume_step)
    if params:
        run.log_hyperparams(params)
    plugins.notify("rankzero_run_started", run=run)
    log.info(
        "run %s %s in %s, %s to %s",
        run.name,
        "continues" if run.resumed else "is kept",
        _short(run_dir),
        "to be delivered later" if asked.delivery == "off" else "to be delivered",
        ", ".join(run.loggers) or "no logger",
    )
    return run


def check(loggers: Any = None, **settings: Any) -> None:
    """Check the arguments of `start` without starting a run, and without asking a tracker.

    On other ranks than zero, no logger is looked at.

    Raises:
        ConfigError: a setting is invalid, or an option is unknown, missing or of a wrong type.
        PluginError: a logger is not installed, or is broken.
    """
    named = {name: settings.pop(name) for name in START_PARAMETERS if name in settings}
    _hyperparams(named.pop("config", None))
    asked = resolve(loggers, **named, options=settings)
    _check_run_id(asked)
    if asked.disabled or not is_rank_zero():
        return
    prepared = prepare_for_later if asked.delivery == "off" else prepare
    for spec in asked.loggers:
        prepared(spec)


def _hyperparams(config: Any) -> dict[str, Any]:
    params = to_jsonable({} if config is None else config)
    if not isinstance(params, dict):
        raise ConfigError(f"start(config=...) must be a mapping of hyperparameters, not {type(config).__name__}")
    return params


def open_run(run_id: str | None) -> Run | None:
    """Return the run with this id if this process has started it and not ended it; None without an id."""
    if not run_id:
        return None
    return next((run for run in endings.open_runs() if isinstance(run, Run) and run.id == run_id), None)


# Identity


def _check_run_id(asked: RunConfig) -> None:
    if asked.run_id is not None:
        check_id(asked.run_id)
    elif asked.resume_step is not None:
        raise ConfigError("resume_step is the step from which a run continues; give its run_id, too")
    if asked.fork_step is not None and asked.fork_from is None:
        raise ConfigError("fork_step is the step at which another run is forked; give that run as fork_from, too")


def _run_dir(asked: RunConfig, run_id: str) -> Path:
    return asked.dir / asked.project / run_id


def _new_info(asked: RunConfig, number: int) -> RunInfo:
    is_taken = Path.exists if asked.disabled or asked.resume == "must" else _is_taken
    run_id = asked.run_id or new_id(number, lambda each: is_taken(_run_dir(asked, each)))
    return _info(asked, run_id, asked.name or name_of(run_id), _run_dir(asked, run_id))


def _info(asked: RunConfig, run_id: str, name: str, run_dir: Path) -> RunInfo:
    program = getattr(sys.modules.get("__main__"), "__file__", None)
    return RunInfo(
        run_id,
        name,
        asked.project,
        str(run_dir),
        tuple(asked.tags),
        asked.notes,
        started=time.time(),
        group=asked.group,
        parent=asked.parent,
        program=os.path.abspath(program) if program else "",
    )


def _info_elsewhere(asked: RunConfig, number: int) -> Callable[[], RunInfo]:
    """Return a function for other ranks that gets the identity of the run from rank zero."""
    timeout = 1.0 if asked.disabled else _ASK_TIMEOUT
    is_warned = False

    def info() -> RunInfo:
        nonlocal timeout, is_warned
        if asked.run_id is not None:
            known: Identity | None = _named_run(asked, asked.run_id)
        else:
            began = time.monotonic()
            known = ask(number, timeout, lambda each: _run_dir(asked, each))
            timeout = max(0.0, timeout - (time.monotonic() - began))
        if known is None:
            known = Identity(UNKNOWN, UNKNOWN, str(_run_dir(asked, UNKNOWN)))
            if not is_warned:
                is_warned = True
                log.warning("rank %d does not know the run's id: %s; %s", get_rank(), _why_unknown(), _HOW_TO_KNOW)
        return _info(asked, known.id, known.name, Path(known.dir))

    return info


def _why_unknown() -> str:
    if group_store() is None:
        return "it was read before the process group was initialised, and the launcher does not identify the job"
    return "rank zero has started no run, or has neither logged nor read the id since the process group was initialised"


def _named_run(asked: RunConfig, run_id: str) -> Identity:
    run_dir = _run_dir(asked, run_id)
    journal = run_dir / JOURNAL
    existing = read_start(journal) if has_journal(run_dir) else None
    return Identity(run_id, existing.run.name if existing else asked.name or name_of(run_id), str(run_dir))


# The run's directory


def _is_taken(run_dir: Path) -> bool:
    # Make the directory at once: jobs with the same launch key may start at the same moment.
    try:
        run_dir.mkdir(parents=True)
    except FileExistsError:
        return True
    except OSError:
        pass  # `_take` raises the error
    return False


def _existing_start(run_dir: Path, asked: RunConfig) -> Start | None:
    journal = run_dir / JOURNAL
    existing = read_start(journal) if has_journal(run_dir) else None
    if existing is None and asked.resume == "must":
        raise RunNotFoundError(
            f"there is no run {asked.run_id or run_dir.name!r} in {run_dir.parent} to resume; check dir, project and "
            'run_id, or use resume="allow"'
        )
    if existing is not None and asked.resume == "never":
        raise ConfigError(
            f'the run {run_dir.name!r} exists in {run_dir.parent}, and resume="never"; give another run_id'
        )
    return existing


def _fork_source(asked: RunConfig) -> Path | None:
    """Return the directory of the run to fork; None if a run is only continued."""
    if asked.fork_from is None or (asked.run_id is not None and has_journal(_run_dir(asked, asked.run_id))):
        return None
    return find_run(asked.fork_from, asked.dir).resolve()


def _take(run_dir: Path) -> WriterLock:
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        return WriterLock(run_dir)
    except RunInUseError:
        raise
    except OSError as error:
        raise ConfigError(
            f"the run's directory {run_dir} cannot be written: {error.strerror}; give another one with dir= or "
            "RANKZERO_DIR"
        ) from error


def _open_journal(info: RunInfo, loggers: list[PreparedLogger], is_resumed: bool) -> EventWriter:
    writer = EventWriter(info)
    recorded = {each.key: dict(each.recorded) for each in loggers}
    started = Start(time.time(), info, recorded, platform.node(), os.getpid(), is_resumed)
    writer.journal.append(encode(started.sealed()))
    return writer


# Couriers


def _capture_environment(run: Run, program: str, secrets: list[str]) -> None:
    from rankzero.capture.environment import (
        record_environment,  # imported here, because the module also runs as a program
    )

    try:
        record_environment(run.dir, program, secrets)
    except Exception as error:
        log.debug("the environment of the run is not recorded: %s", error)


def _start_couriers(loggers: list[PreparedLogger], run_dir: Path, asked: RunConfig) -> Supervisor:
    supervisor = Supervisor(run_dir, asked.down_timeout)
    for each in loggers:
        in_thread = asked.delivery == "thread" or each.needs_thread
        if in_thread and asked.delivery == "process":
            log.info(
                "%s cannot be made in another process, so a thread delivers to it; put its class into a module "
                "that can be imported, and give it arguments that can be pickled",
                each.key,
            )
        courier = CourierThread if in_thread else CourierProcess
        supervisor.start(each.key, partial(courier, run_dir, each))
    return supervisor


def _live_experiment(
    loggers: list[PreparedLogger], supervisor: Supervisor | None, info: RunInfo
) -> LiveExperiment | None:
    if not loggers or supervisor is None:
        return None
    first = loggers[0]
    courier = supervisor.get(first.key)
    if isinstance(courier, CourierThread):
        return ExperimentOfThread(courier.logger)
    return ExperimentOfProcess(first.logger_class, first.for_process().make, info)


# Messages


def _warn_of_rank() -> None:
    """Warn an interactive user that nothing is logged because of an environment variable left by an earlier job."""
    variable = rank_variable()
    if hasattr(sys, "ps1") and variable is not None and not _is_child():
        _show_messages()
        log.warning(
            "this process logs nothing: the environment variable %s makes it rank %d; unset it outside of a job",
            variable,
            get_rank(),
        )


def _is_child() -> bool:
    multiprocessing = sys.modules.get("multiprocessing")
    return multiprocessing is not None and multiprocessing.parent_process() is not None


def _show_messages() -> None:
    """Show the messages of the log ``rankzero``, unless the script has set up logging itself."""
    if log.handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("rankzero: %(message)s"))
    # Writing to a closed stream would raise into the script, with other messages, too.
    handler.addFilter(lambda record: not (logging.getLogger().handlers or getattr(handler.stream, "closed", False)))
    log.addHandler(handler)
    if log.level == logging.NOTSET:
        log.setLevel(logging.INFO)


def _short(path: Path) -> str:
    try:
        relative = os.path.relpath(path)
    except OSError:  # the working directory was deleted
        return str(path)
    return relative if len(relative) < len(str(path)) else str(path)

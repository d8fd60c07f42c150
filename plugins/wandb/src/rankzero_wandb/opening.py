"""Create or resume a run with W&B's client, and translate the client's errors.

In a courier, the client must record the environment of the training process, not of the courier.
"""

from __future__ import annotations

import glob
import json
import os
import platform
import re
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rankzero import rank_zero_warn
from rankzero.capture.environment import Environment, read_environment
from rankzero.errors import AccessError, RejectedError, TrackerUnavailableError
from rankzero.events.run_info import RunInfo
from rankzero.loggers.sdk_errors import Failure, Rule, translated
from rankzero.loggers.sdk_errors import read_failure as read_any_failure
from rankzero.run.identity import name_of
from rankzero.rundir.writer_lock import Writer, writer_pid, writer_state
from rankzero.waiting import wait_until
from rankzero_wandb.options import WandbOptions

MARK = "rankzero"
"""The key of rankzero's own data in a run's config."""

STEP = "trainer/global_step"
"""The metric that is the x-axis of all others."""

FIRST_TIME_ONLY = ("config", "fork_from", "notes", "resume", "resume_from", "tags")
"""Arguments of ``wandb.init`` for a new run only: users may have changed their values in W&B since."""

_ENVIRONMENT_TIMEOUT = 10.0
_NEVER = 1e8  # seconds
_NOT_FOR_COURIER = ("console", "disable_git", "x_disable_stats", "x_save_requirements", "x_stats_sampling_interval")
"""The user's settings that concern the training process, not the courier."""

# Short, because the courier itself retries and warns. Variables such as WANDB_INIT_TIMEOUT take precedence.
_TIMEOUTS = {
    "init_timeout": 20.0,
    "finish_timeout": 60.0,
    "x_file_stream_transmit_interval": 1.0,
    "x_file_stream_retry_wait_max_seconds": 10.0,
    "x_file_transfer_retry_wait_max_seconds": 10.0,
    "x_graphql_retry_wait_max_seconds": 10.0,
}
_DIRECT_FINISH_TIMEOUT = 300.0


_UNKNOWN_USER = r"\b401\b|API key|api_key|not logged in|permission denied"
_ADVICE = "; if the key is wrong or was revoked: wandb login, or set WANDB_API_KEY"
_STATUS = re.compile(r"\b(?:error|status:|upload:) (\d{3})\b")
_SDK_ERRORS = ("wandb.Error", "wandb.WandbApiFailedError", "rankzero_wandb.UploadError", "OSError")


class UploadError(Exception):
    """W&B's client gave up an upload."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"W&B refused the upload: {reason}")
        found = _STATUS.search(reason)
        self.status = int(found[1]) if found else None


# W&B's client does not distinguish permanent from temporary errors. For invalid values it raises ValueError or
# TypeError before it sends them.
ERRORS = (
    Rule(RejectedError, error=("rankzero_wandb.UploadError",), status=(400, 413, 422)),
    Rule(TrackerUnavailableError, error=_SDK_ERRORS, text=_UNKNOWN_USER, advice=_ADVICE),
    Rule(TrackerUnavailableError, error=_SDK_ERRORS),
)
OPENING_ERRORS = (  # never RejectedError: no event is the cause
    Rule(AccessError, text=_UNKNOWN_USER, advice=_ADVICE),
    Rule(AccessError, text=r"\b40[34]\b"),
    Rule(TrackerUnavailableError),
)


def read_failure(error: BaseException) -> Failure:
    """Return the text and the status of an error of W&B's client."""
    failure = read_any_failure(error)
    if failure.text == "<no message>":
        return failure._replace(text="no reason given, as when the login is refused (401)")
    return failure


@contextmanager
def opening(run_id: str) -> Iterator[None]:
    """Translate errors of opening a run, and make sure that it can be opened later.

    After an error, such as a timeout or a full disk, W&B's client believes that the run is open.
    """
    with translated(OPENING_ERRORS, "the run cannot be opened in W&B", read=read_failure):
        try:
            yield
        except TrackerUnavailableError:
            raise
        except Exception as error:
            with suppress(Exception, SystemExit):
                _forget_run(run_id, error)
            raise


def _forget_run(run_id: str, error: Exception) -> None:
    import wandb
    from wandb.sdk.mailbox import MailboxClosedError

    if isinstance(error, ConnectionError | MailboxClosedError):  # wandb-core has died
        wandb.teardown()
        return
    service = wandb.setup().ensure_service()
    _, interface = service.inform_attach(run_id)
    try:
        interface.deliver_exit(1).wait_or(timeout=10)  # or wandb-core waits forever
    finally:
        service.inform_finish(run_id)


# Opening


def open_direct(options: WandbOptions, run_id: str | None) -> Any:
    """Create or resume a run in direct use; another run may be open."""
    import wandb

    arguments = {
        "project": options.project_of(None),
        "name": options.given.get("name"),
        "id": run_id,
        "dir": options.directory_of(None),
        "resume": "allow",
        "mode": options.given.get("mode"),
        **({} if wandb.run is None else {"reinit": "create_new"}),
        **options.init,
        "settings": wandb.Settings(**{"finish_timeout": _DIRECT_FINISH_TIMEOUT, **options.settings}),
    }
    Path(arguments["dir"]).mkdir(parents=True, exist_ok=True)
    run = wandb.init(**arguments)
    if arguments.get("sync_tensorboard"):
        run.define_metric("*", step_metric="global_step")
    else:
        define_step(run)
    return run


def define_step(run: Any) -> None:
    """Make the step the x-axis of all metrics."""
    run.define_metric(STEP)
    run.define_metric("*", step_metric=STEP, step_sync=True)


def open_for_courier(options: WandbOptions, run: RunInfo, config: Mapping[str, Any], line: int, *, is_new: bool) -> Any:
    """Create or resume the W&B run of a rankzero run.

    Args:
        options: the options of the logger.
        run: the rankzero run.
        config: hyperparameters to send with the same request.
        line: the journal line of these hyperparameters.
        is_new: whether to set name, notes and tags, which users may change in W&B later.
    """
    import wandb

    environment = read_environment(Path(run.dir), timeout=_ENVIRONMENT_TIMEOUT)
    init = {name: value for name, value in options.init.items() if is_new or name not in FIRST_TIME_ONLY}
    arguments = {
        "project": options.project_of(run),
        "id": options.id_of(run),
        "dir": options.directory_of(run),
        "resume": "allow",
        "reinit": "create_new",
        "mode": options.mode,
        "entity": options["entity"],
        "group": run.group or options["group"] or run.parent,
        "job_type": options["job_type"],
        **init,
        "config": {**options.given.get("config", {}), **config, MARK: _mark(run, line, environment)},
        **_description(options, run, is_new),
        **({} if options.allows("code") else {"save_code": False}),
        "settings": wandb.Settings(**client_settings(options, run, environment)),
    }
    directory = Path(arguments["dir"], "wandb")
    directory.parent.mkdir(parents=True, exist_ok=True)
    if options.mode == "offline":  # the client's files are named by the second: two runs would share one
        wait_until(lambda: not any(directory.glob(time.strftime("offline-run-%Y%m%d_%H%M%S-*"))), timeout=5)
    with options.hiding_variables():
        opened = wandb.init(**arguments)
    if environment is not None:
        try:
            _save_environment(opened, options, Path(run.dir), environment)
        except OSError as error:  # the run works without it
            rank_zero_warn(f"W&B will not show all of the environment of the run {run.name}: {error}")
    return opened


def mark_as_synced(options: WandbOptions, run: RunInfo) -> None:
    """Make ``wandb sync`` skip the offline files of a run, all of which W&B has."""
    run_id = glob.escape(options.id_of(run) or "")
    for path in Path(options.directory_of(run), "wandb").glob(f"offline-run-*-{run_id}/run-{run_id}.wandb"):
        path.with_suffix(".wandb.synced").touch()


def _mark(run: RunInfo, line: int, environment: Environment | None) -> dict[str, Any]:
    """Return rankzero's own data for the run's config."""
    mark: dict[str, Any] = {"run": run.id, "line": line, **({"parent": run.parent} if run.parent else {})}
    if environment is not None:  # W&B's client would record the courier's
        mark |= {"argv": list(environment.argv), "started": environment.started}
    return mark


def _description(options: WandbOptions, run: RunInfo, is_new: bool) -> dict[str, Any]:
    if not is_new:
        return dict.fromkeys(["name", "notes", "tags"])
    chosen = run.name if run.name != name_of(run.id) else None
    tags = list(dict.fromkeys([*options.given.get("tags", ()), *run.tags]))
    return {
        "name": options.given.get("name") or chosen or options["name"] or run.name,
        "notes": options.given.get("notes") or run.notes or options["notes"],
        "tags": tags or list(filter(None, (options.variable("WANDB_TAGS") or "").split(","))) or None,
    }


# The training process


def client_settings(options: WandbOptions, run: RunInfo, environment: Environment | None) -> dict[str, Any]:
    """Return settings for W&B's client in a courier, with the environment of the training process."""
    settings: dict[str, Any] = {
        **{name: seconds for name, seconds in _TIMEOUTS.items() if _variable_of(name) not in os.environ},
        "console": "off",  # it would be the courier's
        "silent": True,
        "disable_git": True,  # the repository may have changed since training began
        "x_save_requirements": False,
        "x_skip_transaction_log": options.mode != "offline",  # the journal has everything
        "stop_fn": lambda: _stop(run),
        "x_disable_stats": True,
    }
    if environment is None:
        settings["x_disable_machine_info"] = True
    else:
        settings |= {
            "program": environment.program or None,
            "program_abspath": environment.program or None,
            "program_relpath": _relative_program(environment),
            "host": environment.host,
            "username": environment.user,
            "x_executable": environment.executable,
        }
        if environment.git is not None and options.allows("git"):
            settings |= {"git_commit": environment.git.commit, "git_remote_url": environment.git.remote}
        if _is_running_here(run, environment):
            # The client records the hardware; the measurements are in the journal.
            settings |= {"x_disable_stats": False, "x_stats_sampling_interval": _NEVER}
        else:
            settings["x_disable_meta"] = True
    given = {name: options[name] for name in ("base_url", "save_code")}
    given |= {"sweep_id": options.variable("WANDB_SWEEP_ID"), **options.settings}
    settings |= {name: value for name, value in given.items() if value is not None and name not in _NOT_FOR_COURIER}
    return settings if options.allows("code") else {**settings, "disable_code": True, "save_code": False}


def _variable_of(setting: str) -> str:
    return f"WANDB_{setting.removeprefix('x')}".upper()


def _is_running_here(run: RunInfo, environment: Environment) -> bool:
    return environment.pid > 0 and environment.host == platform.node() and writer_state(Path(run.dir)) is Writer.ALIVE


def _relative_program(environment: Environment) -> str | None:
    if not environment.program:
        return None
    root = environment.git.root if environment.git is not None else environment.cwd
    relative = os.path.relpath(environment.program, root)
    return os.path.basename(relative) if relative.startswith("..") else relative


def _save_environment(opened: Any, options: WandbOptions, run_dir: Path, environment: Environment) -> None:
    """Upload the files with which W&B's client describes the environment of a process."""
    files = {}
    if options.settings.get("x_save_requirements", True):
        files["requirements.txt"] = environment.packages
    if environment.git is not None and options.allows("git") and options.allows("code"):
        files["diff.patch"] = environment.git.diff
    if environment.code and opened.settings.save_code:
        files[f"code/{_relative_program(environment)}"] = environment.code
    if opened.settings.x_disable_meta and not options.settings.get("x_disable_meta"):
        _save(opened, "wandb-metadata.json", json.dumps(_metadata(options, environment)).encode())
    for name, path in files.items():
        if path is not None and (run_dir / path).exists():
            _save(opened, name, (run_dir / path).read_bytes())


def _metadata(options: WandbOptions, environment: Environment) -> dict[str, Any]:
    """Return the metadata of the training process in W&B's format, without hardware: the courier may run elsewhere."""
    known: dict[str, Any] = {
        "python": environment.python,
        "startedAt": datetime.fromtimestamp(environment.started, UTC).isoformat().replace("+00:00", "Z"),
        "args": list(environment.argv[1:]),
        "program": environment.program,
        "codePath": _relative_program(environment),
        "root": environment.cwd,
        "host": environment.host,
        "username": environment.user,
        "executable": environment.executable,
    }
    if environment.git is not None and options.allows("git"):
        known["git"] = {"commit": environment.git.commit, "remote": environment.git.remote}
    return {name: value for name, value in known.items() if value}


def _save(opened: Any, name: str, content: bytes) -> None:
    kept = Path(opened.dir, name)
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(content)
    opened.save(str(kept), base_path=opened.dir, policy="now", glob=False)


def _stop(run: RunInfo) -> None:
    """Interrupt training, because a user pressed "Stop run" in W&B.

    The process is the one that holds the writer's lock, according to the kernel; others may have written to the run's
    directory.
    """
    if (writer := writer_pid(Path(run.dir))) is not None:
        os.kill(writer, signal.SIGINT)
    else:
        rank_zero_warn(f"W&B asks to stop the run {run.name}, but its process is not on this machine")

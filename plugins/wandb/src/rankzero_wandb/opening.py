"""Begin a run with W&B's client, or go on with it, and what the client's errors mean.

A courier has the client describe the training process, and not the one that it runs in.
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
"""The key of a run's config under which rankzero notes what concerns itself."""

STEP = "trainer/global_step"
"""The metric that is the x-axis of all others."""

FIRST_TIME_ONLY = ("config", "fork_from", "notes", "resume", "resume_from", "tags")
"""Arguments of ``wandb.init`` that are not for going on with a run: what they set may have changed since."""

_ENVIRONMENT_TIMEOUT = 10.0
_NEVER = 1e8  # seconds
_NOT_FOR_CLIENT = ("console", "disable_git", "x_disable_stats", "x_save_requirements", "x_stats_sampling_interval")
"""Settings of the user's that are about the training process, and that we see to."""

# A courier waits and tries again itself, and warns people; W&B's client is to give up, or to go on, soon, unless the
# user's variables, such as WANDB_INIT_TIMEOUT, say otherwise.
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
_OF_SDK = ("wandb.Error", "wandb.WandbApiFailedError", "rankzero_wandb.UploadError", "OSError")


class UploadError(Exception):
    """W&B's client gave up an upload."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"W&B refused the upload: {reason}")
        found = _STATUS.search(reason)
        self.status = int(found[1]) if found else None


# W&B's client does not distinguish what W&B never takes from what it does not take now. What is wrong with a value is
# found before it is sent, and raised as ValueError or TypeError.
ERRORS = (
    Rule(RejectedError, error=("rankzero_wandb.UploadError",), status=(400, 413, 422)),
    Rule(TrackerUnavailableError, error=_OF_SDK, text=_UNKNOWN_USER, advice=_ADVICE),
    Rule(TrackerUnavailableError, error=_OF_SDK),
)
_ERRORS_OF_OPENING = (  # no event is to blame, whatever the error
    Rule(AccessError, text=_UNKNOWN_USER, advice=_ADVICE),
    Rule(AccessError, text=r"\b40[34]\b"),
    Rule(TrackerUnavailableError),
)


def read_failure(error: BaseException) -> Failure:
    """Return what an error of W&B's client says."""
    failure = read_any_failure(error)
    if failure.text == "<no message>":
        return failure._replace(text="it gave no reason, as for a login that it refuses (401)")
    return failure


@contextmanager
def opening(run_id: str) -> Iterator[None]:
    """Translate whatever keeps a run from being opened, and have W&B's client able to open it another time.

    The client takes a run that it could not open for an open one: W&B did not answer, or the disk is full.
    """
    with translated(_ERRORS_OF_OPENING, "the run cannot be opened in W&B", read=read_failure):
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
        interface.deliver_exit(1).wait_or(timeout=10)  # without it wandb-core waits for more, for ever
    finally:  # also if the run has got that far before
        service.inform_finish(run_id)


# Opening


def open_direct(options: WandbOptions, run_id: str | None) -> Any:
    """Begin a run that is used directly, or go on with it; beside another one that is open."""
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
    """Begin the W&B run of a rankzero run, or go on with it.

    Args:
        options: what the user asked for.
        run: the rankzero run.
        config: hyperparameters that are known already, which saves a request.
        line: the line of the journal that they are from.
        is_new: whether W&B is to get the name of the run; later a person may have changed it there.
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
        **({} if options.may_see("code") else {"save_code": False}),
        "settings": wandb.Settings(**client_settings(options, run, environment)),
    }
    directory = Path(arguments["dir"], "wandb")
    directory.parent.mkdir(parents=True, exist_ok=True)
    if options.mode == "offline":  # the client names its files by the second, and would write on in another's
        wait_until(lambda: not any(directory.glob(time.strftime("offline-run-%Y%m%d_%H%M%S-*"))), timeout=5)
    with options.hiding_variables():
        opened = wandb.init(**arguments)
    if environment is not None:
        try:
            _save_environment(opened, options, Path(run.dir), environment)
        except OSError as error:  # no reason to do without the run
            rank_zero_warn(f"W&B will not show all of the environment of the run {run.name}: {error}")
    return opened


def mark_as_synced(options: WandbOptions, run: RunInfo) -> None:
    """Have ``wandb sync`` pass over what W&B's client has written offline of a run, all of which W&B has."""
    run_id = glob.escape(options.id_of(run) or "")
    for path in Path(options.directory_of(run), "wandb").glob(f"offline-run-*-{run_id}/run-{run_id}.wandb"):
        path.with_suffix(".wandb.synced").touch()


def _mark(run: RunInfo, line: int, environment: Environment | None) -> dict[str, Any]:
    """Return what a run's config says of rankzero."""
    mark: dict[str, Any] = {"run": run.id, "line": line, **({"parent": run.parent} if run.parent else {})}
    if environment is not None:  # W&B's client would show the courier's
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
    """Return settings of W&B's client for a courier, with which it describes the training process."""
    settings: dict[str, Any] = {
        **{name: seconds for name, seconds in _TIMEOUTS.items() if _variable_of(name) not in os.environ},
        "console": "off",  # the courier's own
        "silent": True,
        "disable_git": True,  # as it is now, not as it was
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
        if environment.git is not None and options.may_see("git"):
            settings |= {"git_commit": environment.git.commit, "git_remote_url": environment.git.remote}
        if _is_running_here(run, environment):
            # So the client describes the machine; the journal has measurements.
            settings |= {"x_disable_stats": False, "x_stats_sampling_interval": _NEVER}
        else:
            settings["x_disable_meta"] = True
    given = {name: options[name] for name in ("base_url", "save_code")}
    given |= {"sweep_id": options.variable("WANDB_SWEEP_ID"), **options.settings}
    settings |= {name: value for name, value in given.items() if value is not None and name not in _NOT_FOR_CLIENT}
    return settings if options.may_see("code") else {**settings, "disable_code": True, "save_code": False}


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
    """Have W&B keep the files that its client makes of a process that it runs in."""
    found = {}
    if options.settings.get("x_save_requirements", True):
        found["requirements.txt"] = environment.packages
    if environment.git is not None and options.may_see("git") and options.may_see("code"):
        found["diff.patch"] = environment.git.diff
    if environment.code and opened.settings.save_code:
        found[f"code/{_relative_program(environment)}"] = environment.code
    if opened.settings.x_disable_meta and not options.settings.get("x_disable_meta"):
        _save(opened, "wandb-metadata.json", json.dumps(_metadata(options, environment)).encode())
    for name, path in found.items():
        if path is not None and (run_dir / path).exists():
            _save(opened, name, (run_dir / path).read_bytes())


def _metadata(options: WandbOptions, environment: Environment) -> dict[str, Any]:
    """Return what W&B's client writes of the process that it runs in, without the machine, which may be another."""
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
    if environment.git is not None and options.may_see("git"):
        known["git"] = {"commit": environment.git.commit, "remote": environment.git.remote}
    return {name: value for name, value in known.items() if value}


def _save(opened: Any, name: str, content: bytes) -> None:
    kept = Path(opened.dir, name)
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(content)
    opened.save(str(kept), base_path=opened.dir, policy="now", glob=False)


def _stop(run: RunInfo) -> None:
    """Interrupt training when somebody pressed "Stop run" in W&B, as W&B's client does in the process it runs in.

    Only the process of which the kernel says that it writes the run: whatever stands in the run's directory, others
    may have written.
    """
    if (writer := writer_pid(Path(run.dir))) is not None:
        os.kill(writer, signal.SIGINT)
    else:
        rank_zero_warn(f"W&B asks to stop the run {run.name}, whose process is not on this machine")

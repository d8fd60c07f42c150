"""What W&B shows of a process, made to tell of the training process although a courier tells it."""

from __future__ import annotations

import json
import os
import platform
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rankzero import rank_zero_warn
from rankzero.capture.environment import Environment
from rankzero.events.run_info import RunInfo
from rankzero.rundir.writer_lock import Writer, writer_pid, writer_state
from rankzero_wandb.settings import Settings


def mark(run: RunInfo, line: int, environment: Environment | None) -> dict[str, Any]:
    """Return what a run's config says of rankzero."""
    said: dict[str, Any] = {"run": run.id, "line": line}
    if environment is not None:  # W&B's client would show the courier's
        said["argv"] = list(environment.argv)
        said["started"] = environment.started
    return said


def environment_settings(settings: Settings, run: RunInfo, environment: Environment | None) -> dict[str, Any]:
    """Return what makes W&B's client tell of the training process, not of this one."""
    told: dict[str, Any] = {
        "console": "off",  # the courier's own
        "silent": True,
        "disable_git": True,  # as it is now, not as it was
        "x_save_requirements": False,
        "x_skip_transaction_log": not settings.is_offline,  # the journal has everything
        "stop_fn": lambda: _stop(run),
    }
    if environment is None:
        return {**told, "x_disable_stats": True, "x_disable_machine_info": True}
    told |= {
        "program": environment.program or None,
        "program_abspath": environment.program or None,
        "program_relpath": _relative_program(environment),
        "host": environment.host,
        "username": environment.user,
        "x_executable": environment.executable,
    }
    if environment.git is not None and settings.has_git:
        told |= {"git_commit": environment.git.commit, "git_remote_url": environment.git.remote}
    if _is_running_here(run, environment):
        return {**told, "x_stats_pid": environment.pid, "x_stats_track_process_tree": True}
    return {**told, "x_disable_stats": True, "x_disable_meta": True}


def _is_running_here(run: RunInfo, environment: Environment) -> bool:
    return environment.pid > 0 and environment.host == platform.node() and writer_state(Path(run.dir)) is Writer.ALIVE


def _relative_program(environment: Environment) -> str | None:
    if not environment.program:
        return None
    root = environment.git.root if environment.git is not None else environment.cwd
    relative = os.path.relpath(environment.program, root)
    return os.path.basename(relative) if relative.startswith("..") else relative


def save_environment(opened: Any, settings: Settings, run_dir: Path, environment: Environment) -> None:
    """Have W&B keep the files that its client makes of a process that it runs in."""
    found = {}
    if settings.for_client.get("x_save_requirements", True):
        found["requirements.txt"] = environment.packages
    if environment.git is not None and settings.has_git and settings.has_code:
        found["diff.patch"] = environment.git.diff
    if environment.code and opened.settings.save_code:
        found[f"code/{_relative_program(environment)}"] = environment.code
    if opened.settings.x_disable_meta and not settings.for_client.get("x_disable_meta"):
        _save(opened, "wandb-metadata.json", json.dumps(_metadata(settings, environment)).encode())
    for name, path in found.items():
        if path is not None and (run_dir / path).exists():
            _save(opened, name, (run_dir / path).read_bytes())


def _metadata(settings: Settings, environment: Environment) -> dict[str, Any]:
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
    if environment.git is not None and settings.has_git:
        known["git"] = {"commit": environment.git.commit, "remote": environment.git.remote}
    return {name: value for name, value in known.items() if value}


def _save(opened: Any, name: str, content: bytes) -> None:
    kept = Path(opened.dir, name)
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(content)
    opened.save(str(kept), base_path=opened.dir, policy="now", glob=False)


def _stop(run: RunInfo) -> None:
    """Pass on that somebody pressed "Stop run" in W&B, as W&B's client does in the process that it runs in.

    Only to the process of which the kernel says that it writes the run: whatever stands in the run's directory, others
    may have written.
    """
    if (writer := writer_pid(Path(run.dir))) is not None:
        os.kill(writer, signal.SIGINT)
    else:
        rank_zero_warn(f"W&B was told to stop the run {run.name}, whose process is not on this machine")

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
from rankzero.capture.environment import Surroundings
from rankzero.events.run_info import RunInfo
from rankzero.rundir.writer_lock import Writer, writer_pid, writer_state
from rankzero_wandb.settings import Settings


def mark(run: RunInfo, line: int, surroundings: Surroundings | None) -> dict[str, Any]:
    """Return what a run's config says of rankzero."""
    said: dict[str, Any] = {"run": run.id, "line": line}
    if surroundings is not None:  # W&B's client would show the courier's
        said["argv"] = list(surroundings.argv)
        said["started"] = surroundings.started
    return said


def as_it_was(settings: Settings, run: RunInfo, surroundings: Surroundings | None) -> dict[str, Any]:
    """Return what makes W&B's client tell of the training process, not of this one."""
    told: dict[str, Any] = {
        "console": "off",  # the courier's own
        "silent": True,
        "disable_git": True,  # as it is now, not as it was
        "x_save_requirements": False,
        "x_skip_transaction_log": not settings.is_offline,  # the journal has everything
        "stop_fn": lambda: _stop(run),
    }
    if surroundings is None:
        return {**told, "x_disable_stats": True, "x_disable_machine_info": True}
    told |= {
        "program": surroundings.program or None,
        "program_abspath": surroundings.program or None,
        "program_relpath": _relative_program(surroundings),
        "host": surroundings.host,
        "username": surroundings.user,
        "x_executable": surroundings.executable,
    }
    if surroundings.git is not None and settings.has_git:
        told |= {"git_commit": surroundings.git.commit, "git_remote_url": surroundings.git.remote}
    if _is_running_here(run, surroundings):
        return {**told, "x_stats_pid": surroundings.pid, "x_stats_track_process_tree": True}
    return {**told, "x_disable_stats": True, "x_disable_meta": True}


def _is_running_here(run: RunInfo, surroundings: Surroundings) -> bool:
    return surroundings.pid > 0 and surroundings.host == platform.node() and writer_state(Path(run.dir)) is Writer.ALIVE


def _relative_program(surroundings: Surroundings) -> str | None:
    if not surroundings.program:
        return None
    root = surroundings.git.root if surroundings.git is not None else surroundings.cwd
    relative = os.path.relpath(surroundings.program, root)
    return os.path.basename(relative) if relative.startswith("..") else relative


def save_surroundings(opened: Any, settings: Settings, run_dir: Path, surroundings: Surroundings) -> None:
    """Have W&B keep the files that its client makes of a process that it runs in."""
    found = {}
    if settings.for_client.get("x_save_requirements", True):
        found["requirements.txt"] = surroundings.packages
    if surroundings.git is not None and settings.has_git and settings.has_code:
        found["diff.patch"] = surroundings.git.diff
    if surroundings.code and opened.settings.save_code:
        found[f"code/{_relative_program(surroundings)}"] = surroundings.code
    if opened.settings.x_disable_meta and not settings.for_client.get("x_disable_meta"):
        _save(opened, "wandb-metadata.json", json.dumps(_metadata(settings, surroundings)).encode())
    for name, path in found.items():
        if path is not None and (run_dir / path).exists():
            _save(opened, name, (run_dir / path).read_bytes())


def _metadata(settings: Settings, surroundings: Surroundings) -> dict[str, Any]:
    """Return what W&B's client writes of the process that it runs in, without the machine, which may be another."""
    known: dict[str, Any] = {
        "python": surroundings.python,
        "startedAt": datetime.fromtimestamp(surroundings.started, UTC).isoformat().replace("+00:00", "Z"),
        "args": list(surroundings.argv[1:]),
        "program": surroundings.program,
        "codePath": _relative_program(surroundings),
        "root": surroundings.cwd,
        "host": surroundings.host,
        "username": surroundings.user,
        "executable": surroundings.executable,
    }
    if surroundings.git is not None and settings.has_git:
        known["git"] = {"commit": surroundings.git.commit, "remote": surroundings.git.remote}
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

"""What Comet shows of a process: that of the training process, although a courier tells it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rankzero.capture.environment import Environment, Git, read_environment
from rankzero.events.run_info import RunInfo
from rankzero_comet.settings import Settings

_TIMEOUT = 10.0  # seconds: git and the list of packages may not be known yet

Fact = tuple[str, tuple[Any, ...]]
"""What is said, and its values: the arguments of `Server.describe`."""


def described(settings: Settings, run: RunInfo) -> tuple[str | None, Iterator[Fact]]:
    """Return which start of the run is the newest, and what there is to say of it except what the user switched off."""
    found = read_environment(run.dir, timeout=_TIMEOUT)
    if found is None:
        return None, iter(())
    return f"{found.started:.3f}", _facts(settings, Path(run.dir), found)


def _facts(settings: Settings, directory: Path, found: Environment) -> Iterator[Fact]:
    if settings.wants("log_env_details"):
        yield from _process(settings, found)
        packages = _content(directory, found.packages)
        if packages:
            yield "installed_packages", (packages.decode(errors="replace").splitlines(),)
    if found.program:
        yield "filename", (Path(found.program).name,)
    if settings.wants("log_code"):
        code = _content(directory, found.code)
        if code:
            yield "code", (code.decode(errors="replace"),)
    if found.git is not None:
        yield from _git(settings, found, found.git, directory)


def _process(settings: Settings, found: Environment) -> Iterator[Fact]:
    said = {
        "command": list(found.argv),
        "executable": found.executable,
        "python_version": found.python,
        "pid": found.pid,
    }
    if settings.wants("log_env_host"):
        said |= {"hostname": found.host, "user": found.user}
    for setter, value in said.items():
        if value:
            yield setter, (value,)


def _git(settings: Settings, found: Environment, git: Git, directory: Path) -> Iterator[Fact]:
    if settings.wants("log_git_metadata"):
        yield "git_metadata", (found.user, git.root, git.branch, git.commit, git.remote)
    if settings.wants("log_git_patch"):
        patch = _content(directory, git.diff)
        if patch:
            yield "git_patch", (patch,)


def _content(directory: Path, name: str | None) -> bytes | None:
    """Return what is in a file of the run's; None if there is none, also where the run was copied without it."""
    path = directory / name if name else None
    return path.read_bytes() if path and path.is_file() else None

"""What Neptune's client records of the process that it runs in, told of the training process by a courier."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rankzero.capture.environment import Environment

_HOST, _CODE = "sys/hostname", "source_code"


class Told(NamedTuple):
    """What is to be kept in a run, by path."""

    texts: dict[str, str]
    files: dict[str, str]
    """Paths of files on this machine."""


def told(environment: Environment | None, run_dir: str, init: Mapping[str, Any]) -> Told:
    """Return what is to be kept of where a run was started.

    Args:
        environment: what is known of it.
        run_dir: the directory of the rankzero run.
        init: the user's arguments for ``neptune.init_run``: ``source_files=[]`` leaves out the script,
            ``git_ref=False`` the state of the repository; the packages are kept only if ``dependencies`` is given.
    """
    if environment is None:
        return Told({}, {})
    texts = {_HOST: environment.host}
    files: dict[str, str | None] = {}
    if init.get("source_files") != []:
        texts[f"{_CODE}/entrypoint"] = os.path.basename(environment.program)
        files[f"{_CODE}/script"] = environment.code
    git = environment.git
    if git is not None and init.get("git_ref") is not False:
        said = {"commit": git.commit, "branch": git.branch, "remote": git.remote}
        texts |= {f"{_CODE}/{name}": text or "" for name, text in said.items()}
        files[f"{_CODE}/diff"] = git.diff
    if init.get("dependencies"):
        files[f"{_CODE}/requirements"] = environment.packages
    found = {path: str(Path(run_dir, file)) for path, file in files.items() if file is not None}
    return Told(
        {path: text for path, text in texts.items() if text},
        {path: file for path, file in found.items() if os.path.isfile(file)},
    )

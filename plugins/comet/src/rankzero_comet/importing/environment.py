"""Read the name of an experiment, and the machine, program and git state of its process."""

from __future__ import annotations

from typing import Any

import msgspec

from rankzero.capture.environment import Environment
from rankzero.importers.base import Report
from rankzero.media.store import MediaStore
from rankzero.secrets import mask_arguments
from rankzero_comet.importing.archive import Archive
from rankzero_comet.importing.translator import INVALID, decoded

NAME = "Name"
"""The name of the experiment among what was logged with ``log_other``."""
DESCRIPTIONS = frozenset({"system_details", "file_name", "git_metadata", "gpu_static_info", "installed_packages"})
"""The types of messages that describe the process."""


def describe(archive: Archive) -> dict[str, Any]:
    """Return the payload of each description by its type, and the name of the experiment as `NAME`."""
    found: dict[str, Any] = {}
    for line in archive.lines(Report()):
        if b'"metric_msg"' in line or b'"parameter_msg"' in line or b'"standard_output"' in line:
            continue  # nearly all messages
        try:
            type, payload = decoded(line)
            if type == "log_other" and payload["key"] == NAME:
                found[NAME] = str(payload["value"])
            elif type in DESCRIPTIONS:
                found[type] = payload.get(type, payload)
        except INVALID:
            continue
    return found


def environment_of(found: dict[str, Any], files: MediaStore, started: float) -> Environment | None:
    """Return the environment that `describe` found; None if there is none, or it is damaged."""
    system, git = found.get("system_details", {}), found.get("git_metadata", {})
    try:
        command = system.get("command") or []
        packages = "".join(f"{each}\n" for each in found.get("installed_packages", ()))
        environment = {
            "host": system.get("hostname") or "",
            "pid": system.get("pid") or 0,
            "user": system.get("user") or "",
            "argv": mask_arguments(command.split() if isinstance(command, str) else command),
            "program": found.get("file_name") or "",
            "executable": system.get("python_exe") or "",
            "python": system.get("python_version") or "",
            "started": started,
            "cpu": system.get("processor") or "",
            "gpus": [each["name"] for each in found.get("gpu_static_info", ())],
            "packages": files.put_bytes((packages.encode(), ".txt")).path if packages else None,
        }
        if git.get("parent"):
            branch = (git.get("branch") or "").removeprefix("refs/heads/") or None
            environment["git"] = {"root": "", "commit": git["parent"], "branch": branch, "remote": git.get("origin")}
        return msgspec.convert(environment, Environment) if system or git else None
    except INVALID:
        return None

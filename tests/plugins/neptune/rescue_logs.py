"""Write logs as a Neptune 1.x client does, for cases that take the real client hours, or a wrong clock."""

import json
from datetime import UTC, datetime
from pathlib import Path

RUN = "11111111-2222-3333-4444-555555555555"


def operation(kind, name, version, at, **fields):
    """A line: an operation of ``kind`` on the attribute ``name``."""
    return {"obj": {"type": kind, "path": name.split("/"), **fields}, "version": version, "at": at}


def value(name, number, version, at, step=None):
    """A line that appends a number to a series."""
    return operation("LogFloats", name, version, at, values=[{"value": number, "step": step, "ts": at}])


def piece(text, version, at, name="monitoring/abc/stdout"):
    """A line that appends a text to a series."""
    return operation("LogStrings", name, version, at, values=[{"value": text, "step": None, "ts": at}])


def write_log(project, lines, process="25359__da7zqj19", created=1_700_000_000.0, first=1, mode="offline") -> Path:
    """Write the directory of a process; without metadata.json if ``created`` is None."""
    directory = Path(project, ".neptune", mode, f"run__{RUN}__{process}")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"data-{first}.log").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if created is not None:
        moment = datetime.fromtimestamp(created, UTC).isoformat()
        metadata = {"mode": mode, "containerId": RUN, "containerType": "run", "createdAt": moment}
        (directory / "metadata.json").write_text(json.dumps({**metadata, "structureVersion": 1}))
    return directory

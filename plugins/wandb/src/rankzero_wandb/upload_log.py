"""What W&B's client has uploaded, as it tells nowhere but in the log that it keeps of a run.

``run.log`` and even ``run.finish`` return normally when everything was lost; ``debug-internal.log`` has a line of JSON
before and after each request that carries rows (wandb 0.31). The client takes any answer with a status of 2xx for
success. If the body is not JSON, as from a login page or a proxy, another line says so.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

_OPENED = "stream: starting"
_SENDING = "filestream: sending request"
_SENT = "filestream: request sent"
_FATAL = "filestream: fatal error"
_NOT_JSON = "filestream: json decode error"
_FILES_FAILED = ("file transfer: upload: failed", "runfiles: CreateRunFiles returned error")
_SETTINGS_FAILED = "runupserter: failed to upload changes"
_OURS = tuple(f'"{begin}'.encode() for begin in ("filestream: ", "stream: ", *_FILES_FAILED, _SETTINGS_FAILED))
_FILE = re.compile(r"\bName: (.+), Url: ")


class _Line(msgspec.Struct):
    msg: str = ""
    history_offset: int | None = None
    history_lines: int = 0
    uploaded_len: int = 0
    complete: bool = False
    error: str = ""
    task: str = ""


_decoder = msgspec.json.Decoder(_Line)


class UploadLog:
    """Follows the log of one opening of a run.

    Args:
        path: of ``debug-internal.log``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._begin()

    def _begin(self) -> None:
        self._on_its_way = _Line()
        self._first: int | None = None  # where W&B had the first of our rows
        self.end = 0
        """How many rows W&B has in all if it has taken what was sent."""
        self.rows = 0
        """How many rows were sent of those that were logged since this opening."""
        self.files = 0
        """How many files W&B was told of that they are uploaded."""
        self.is_complete = False
        """Whether W&B knows that the run has ended."""
        self.fatal: str | None = None
        """Why nothing will be uploaded any more; None if all is well."""
        self.failures: dict[str, str] = {}
        """Why a file will not be uploaded, by its path in the run; under "" why some will not."""
        self.settings_failure: str | None = None
        """Why the newest settings will not be uploaded by themselves."""

    def read(self) -> None:
        """Take in what is new."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            if any(begin in line for begin in _OURS):
                self._take(line)

    def _take(self, data: bytes) -> None:
        try:
            line = _decoder.decode(data)
        except msgspec.MsgspecError:
            return
        if line.msg == _OPENED:  # of two openings in one second this is the log of both
            self._begin()
        elif line.msg == _SENDING:
            self._on_its_way = line
        elif line.msg == _SENT:
            self._arrived(self._on_its_way)
            self._on_its_way = _Line()
        elif line.msg.startswith(_FATAL):
            self.fatal = _said(line).removeprefix(_FATAL).strip(": ") or "no reason"
        elif line.msg.startswith(_NOT_JSON):  # the client goes on, and what it sent is lost
            reason = _said(line).removeprefix(_NOT_JSON).strip(": ")
            self.fatal = f"what answers is not W&B's API, but perhaps a login page or a proxy: {reason}"
        elif line.msg.startswith(_FILES_FAILED):
            file = _FILE.search(line.task)
            self.failures[file[1] if file else ""] = _said(line)
        elif line.msg == _SETTINGS_FAILED:
            self.settings_failure = _said(line)

    def _arrived(self, request: _Line) -> None:
        if request.history_offset is not None:
            if self._first is None:
                self._first = request.history_offset
            self.end = request.history_offset + request.history_lines
            self.rows = self.end - self._first
        self.files += request.uploaded_len
        self.is_complete = self.is_complete or request.complete


def _said(line: _Line) -> str:
    return " ".join(f"{line.msg} {line.error}".split())

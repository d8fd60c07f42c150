"""What W&B's client has uploaded, as it tells nowhere but in the log that it keeps of a run.

``run.log`` and even ``run.finish`` return normally when everything was lost; ``debug-internal.log`` has a line of JSON
before and after each request that carries rows (wandb 0.31).
"""

from __future__ import annotations

from pathlib import Path

import msgspec

_OPENED = "stream: starting"
_SENDING = "filestream: sending request"
_SENT = "filestream: request sent"
_FATAL = "filestream: fatal error"


class _Line(msgspec.Struct):
    msg: str = ""
    history_offset: int | None = None
    history_lines: int = 0
    complete: bool = False
    error: str = ""


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
        self.rows = 0
        """How many rows W&B has of those that were logged since this opening."""
        self.is_complete = False
        """Whether W&B knows that the run has ended."""
        self.fatal: str | None = None
        """Why nothing will be uploaded any more; None if all is well."""

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
            if b'"filestream: ' in line or b'"stream: ' in line:
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
            self.fatal = " ".join(f"{line.msg.removeprefix(_FATAL).strip(': ')} {line.error}".split()) or "no reason"

    def _arrived(self, request: _Line) -> None:
        if request.history_offset is not None:
            if self._first is None:
                self._first = request.history_offset
            self.rows = request.history_offset + request.history_lines - self._first
        self.is_complete = self.is_complete or request.complete

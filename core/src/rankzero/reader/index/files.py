"""The two files of an index in a run's directory: typed, with a checksum, and never believed against the journal.

Both are msgpack after a first line with the format, the byte order and the CRC-32 of the rest. What was damaged, or was
written by another version, is as good as missing.
"""

from __future__ import annotations

import os
import sys
import zlib
from array import array
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from rankzero.files.writing import read_own, replacing
from rankzero.reader.index.curves import SavedCurve, from_bytes
from rankzero.reader.index.summary import RunSummary
from rankzero.rundir.layout import CURVES, SUMMARY

_FORMAT = f"rankzero index 1 {sys.byteorder} ".encode()


class SavedIndex(msgspec.Struct):
    """An index as it is in its file."""

    summary: RunSummary
    others: memoryview
    """Where the lines are that are not metrics: offsets of their beginnings and ends."""
    curves: dict[str, SavedCurve]

    def check(self) -> None:
        """Raise ValueError if the data is not safe to use: another user may have written it."""
        self.summary.check()
        spans = self.spans()
        if len(spans) % 2 or any(end < start for start, end in pairwise((0, *spans, self.summary.journal.read))):
            raise ValueError("an offset is not in the journal")
        if self.curves.keys() != self.summary.metrics.keys():
            raise ValueError("some metrics have no curve")
        for curve in self.curves.values():
            curve.check()

    def spans(self) -> array[int]:
        """Return the offsets."""
        return from_bytes("q", self.others)


def load_summary(run_dir: str | os.PathLike[str]) -> RunSummary | None:
    """Return the summary of a run as it was saved; None if there is none that is intact."""
    summary: RunSummary | None = _load(f"{run_dir}/{SUMMARY}", _summary_decoder)
    return summary


def load_index(run_dir: Path) -> tuple[SavedIndex, int] | None:
    """Return the index of a run and its size in bytes; None if it or the summary beside it is not intact."""
    summary = load_summary(run_dir)
    index: SavedIndex | None = _load(f"{run_dir}/{CURVES}", _index_decoder) if summary else None
    if summary is None or index is None or summary.journal != index.summary.journal:
        return None
    return index, os.stat(run_dir / CURVES).st_size


def save(run_dir: Path, index: SavedIndex) -> int:
    """Write both files, if the directory can be written; return the size of the index in bytes."""
    content = msgspec.msgpack.encode(index)
    with suppress(OSError):
        for name, body in ((CURVES, content), (SUMMARY, msgspec.msgpack.encode(index.summary))):
            with replacing(run_dir / name) as file:
                file.write(_header(body))
                file.write(body)
    return len(content)


_summary_decoder = msgspec.msgpack.Decoder(RunSummary)
_index_decoder = msgspec.msgpack.Decoder(SavedIndex)


def _load(path: str, decoder: msgspec.msgpack.Decoder[Any]) -> Any:
    try:
        content = read_own(path)
        body = memoryview(content)[len(_header(b"")) :]
        if not content.startswith(_header(body)):
            return None
        found = decoder.decode(body)
        found.check()
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return found


def _header(content: bytes | memoryview) -> bytes:
    return _FORMAT + b"%08x\n" % zlib.crc32(content)

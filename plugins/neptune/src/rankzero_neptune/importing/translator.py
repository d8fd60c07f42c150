"""Translate Neptune's attributes and series to rankzero's events, for all importers.

Successive values with the same step and time become one event. Memory grows with the number of attributes, not with the
number of values.
"""

from __future__ import annotations

import base64
import binascii
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from rankzero.events.structs import Artifact, Event, Image, Metrics, Params, Tags, Text
from rankzero.events.structs import Histogram as HistogramEvent
from rankzero.importers.base import Header, Report
from rankzero.importers.console_lines import ConsoleLines
from rankzero.importers.nested_params import NestedParams
from rankzero.media.encoders import Histogram
from rankzero.media.store import MediaFile, MediaStore
from rankzero_neptune.importing.string_sets import StringSets

_IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp"})
TAGS = "sys/tags"
_HEADER = frozenset({"sys/name", "sys/description", "sys/failed", TAGS})
"""Attributes that go into the header or tags of the run, not into its parameters."""

_CONSOLE = frozenset({"monitoring", "runtime"})
_SUFFIX = re.compile(r"\.[\w-]{1,31}", re.ASCII)
_MAX_SINGLE_TEXTS = 100
_ROWS_OF_TEXT = 500


class Translator:
    """Collects events in ``ready``, from which `take` removes them."""

    def __init__(self, files: MediaStore, report: Report, tags: Iterable[str] = ()) -> None:
        """Start translating a run.

        Args:
            files: stores files in the run's directory.
            report: records the data that cannot be imported.
            tags: the tags that the run has at its end; the others were removed.
        """
        self.ready: list[Event] = []
        self._files = files
        self._report = report
        self._row: Metrics | None = None
        self._params: Params | None = None
        self._in_params: set[str] = set()
        self._nested = NestedParams()
        self._next_steps: dict[str, float] = {}
        self._new_tags = dict.fromkeys(tags)
        self._sets = StringSets()
        self._texts: dict[str, int] = {}
        self._many_texts: dict[str, Text] = {}
        self._console = ConsoleLines()

    def take(self) -> list[Event]:
        """Return and remove the events that are ready."""
        ready, self.ready = self.ready, []
        return ready

    def finish(self) -> list[Event]:
        """Return the remaining events."""
        self._flush()
        for each in (*self._console.partial(), *self._many_texts.values()):
            self._put(each)
        return self.take()

    # Values

    def number(self, name: str, value: float, step: float | None, time: float) -> None:
        """Add a number of a series."""
        if step is None or step != (whole := int(step)):
            whole = self._whole_step(name, step, time)
        else:
            self._next_steps[name] = whole + 1
        row = self._row
        if row is None:
            self._flush()
        elif row.step == whole and row.time == time and name not in row.values:
            row.values[name] = value
            return
        else:
            self.ready.append(row)
        self._row = Metrics(time, whole, {name: value})

    def _whole_step(self, name: str, step: float | None, time: float) -> int:
        """Return the step as an int. Without a step it is the next one; one with a fraction also becomes a metric."""
        if step is None:
            step = self._next_steps.get(name, 0)
        else:
            self.number(f"{name}/step", step, step // 1, time)
        self._next_steps[name] = step + 1
        return int(step // 1)

    def param(self, name: str, value: Any, time: float) -> None:
        """Add a parameter."""
        if name in _HEADER or self._nested.has(name, value):
            return
        if name in self._in_params:
            self._flush()
        if self._params is None:
            self._flush()
            self._params = Params(time, {})
        self._in_params.add(name)
        self._nested.set(self._params.values, name, value)

    def date(self, name: str, milliseconds: float, time: float) -> None:
        """Add a parameter that is a date."""
        try:
            date = datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat()
        except (ValueError, OverflowError, OSError):
            self._report.leave_out(name, f"the date {milliseconds:g} ms after 1970 is out of range")
            return
        self.param(name, date, time)

    def text(self, name: str, value: str, step: float | None, time: float) -> None:
        """Add a text of a series, or a piece of console output."""
        if name.endswith(("/stdout", "/stderr")) and name.partition("/")[0] in _CONSOLE:
            if (lines := self._console.add(name, value, time)) is not None:
                self._put(lines)
            return
        whole = self._whole_step(name, step, time) if step is None else int(step // 1)
        self._next_steps[name] = whole + 1
        self._texts[name] = count = self._texts.get(name, 0) + 1
        if count <= _MAX_SINGLE_TEXTS:
            self._put(Text(time, name, ["value"], [[value]], whole))
            return
        many = self._many_texts.setdefault(name, Text(time, name, ["step", "time", "value"], [], whole))
        many.data.append([whole if step is None else step, time, value])
        if len(many.data) >= _ROWS_OF_TEXT:
            self._put(self._many_texts.pop(name))

    def histogram(self, name: str, histogram: Histogram, step: float, time: float) -> None:
        """Add a histogram of a series."""
        self._put(HistogramEvent(time, name, histogram, int(step // 1)))

    # Sets

    def add_strings(self, name: str, values: Sequence[str], time: float) -> None:
        """Add strings to a set."""
        if name == TAGS:
            self._tags(values, time)
        else:
            self.param(name, self._sets.add(name, values), time)

    def assign_strings(self, name: str, values: Sequence[str], time: float) -> None:
        """Replace the content of a set of strings."""
        if name == TAGS:
            self._tags(values, time)
        else:
            self.param(name, self._sets.assign(name, values), time)

    def remove_strings(self, name: str, values: Sequence[str], time: float) -> None:
        """Remove strings from a set."""
        if name != TAGS and (rest := self._sets.remove(name, values)) is not None:
            self.param(name, rest, time)

    def _tags(self, values: Sequence[str], time: float) -> None:
        new = [value for value in dict.fromkeys(values) if value in self._new_tags]
        for each in new:
            del self._new_tags[each]
        if new:
            self._put(Tags(time, new))

    # Files

    def file(self, name: str, path: Path, time: float, step: float | None = None) -> None:
        """Add a file on disk."""
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe or a device might never end
                raise OSError("it is not a regular file")
            stored = self._files.put_file(path)
        except (OSError, ValueError) as error:  # ValueError: a path with NUL
            reason = getattr(error, "strerror", None) or error
            self._report.leave_out(name, f"{path}: {reason}")
            return
        self._put_file(name, stored, path.suffix, time, step)

    def content(self, name: str, encoded: str, suffix: str, time: float) -> None:
        """Add a file with its content in base64."""
        data = self._decoded(name, encoded)
        if data is not None:
            suffix = suffix if _SUFFIX.fullmatch(suffix) else ""
            self._put_file(name, self._files.put_bytes((data, suffix)), suffix, time, None)

    def picture(self, name: str, encoded: str | None, caption: str | None, step: float | None, time: float) -> None:
        """Add an image of a series, in base64."""
        whole = self._whole_step(name, step, time) if step is None else int(step // 1)
        self._next_steps[name] = whole + 1
        if encoded is None:
            self._report.leave_out(name, "the client did not store this image, because it was too large")
            return
        data = self._decoded(name, encoded)
        if data is not None:
            self._put(Image(time, name, [self._files.put_bytes((data, ".png"), caption=caption)], whole))

    def _put_file(self, name: str, stored: MediaFile, suffix: str, time: float, step: float | None) -> None:
        whole = None if step is None else int(step // 1)
        if suffix.lower() in _IMAGE_SUFFIXES:
            self._put(Image(time, name, [stored], whole))
        else:
            details = {} if whole is None else {"step": step}
            self._put(Artifact(time, stored.path, name, "file", metadata=details))

    def _decoded(self, name: str, encoded: str) -> bytes | None:
        try:
            return base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            self._report.leave_out(name, "its content is not valid base64")
            return None

    # Collecting

    def _put(self, event: Event) -> None:
        self._flush()
        self.ready.append(event)

    def _flush(self) -> None:
        if self._row is not None:
            self.ready.append(self._row)
            self._row = None
        if self._params is not None:
            self.ready.append(self._params)
            self._params = None
            self._in_params.clear()


def header_of(about: Mapping[str, Any], name: str, started: float) -> Header:
    """Return the header of a run from its attributes in ``sys/``; ``name`` is the default name."""
    return Header(
        name=str(about.get("sys/name") or name),
        notes=about.get("sys/description") or None,
        started=started,
        status="failed" if about.get("sys/failed") is True else "success",
    )


def shares_of_bins(densities: Iterable[float], edges: Sequence[float]) -> list[float]:
    """Convert densities to the share of values in each bin; the counts are unknown."""
    widths = (high - low for low, high in pairwise(edges))
    return [density * width for density, width in zip(densities, widths, strict=False)]

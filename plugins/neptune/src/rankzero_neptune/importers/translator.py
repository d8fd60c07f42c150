"""What Neptune knows of a run → rankzero's events; the same for every source.

Values that come one after the other with the same step and time are one event. What is kept in memory grows with the
number of attributes, not with the number of values.
"""

from __future__ import annotations

import base64
import binascii
import re
import stat
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from rankzero.events.structs import Artifact, Event, Image, Metrics, Params, Tags, Text
from rankzero.events.structs import Histogram as HistogramEvent
from rankzero.importers.base import Report
from rankzero.media.encoders import Histogram
from rankzero.media.store import MediaFile, MediaStore
from rankzero_neptune.rescue.params import ParamPlaces, StringSets, put
from rankzero_neptune.rescue.printed import Printed

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp"})
TAGS = "sys/tags"
OF_THE_RUN = frozenset({"sys/name", "sys/description", "sys/failed", TAGS})
"""Attributes that say something of the run as a whole, and are no parameters."""

_PRINTED = frozenset({"monitoring", "runtime"})
_SUFFIX = re.compile(r"\.[\w-]{1,31}", re.ASCII)
_MOST_SINGLE_TEXTS = 100
_ROWS_OF_TEXT = 500


class Translator:
    """Collects events in ``ready``; the caller takes them from there."""

    def __init__(self, files: MediaStore, report: Report, tags: Iterable[str] = ()) -> None:
        """Begin.

        Args:
            files: where files are kept.
            report: what is told of what cannot be taken.
            tags: those that the run has in the end; others were taken away again.
        """
        self.ready: list[Event] = []
        self._files = files
        self._report = report
        self._row: Metrics | None = None
        self._params: Params | None = None
        self._in_params: set[str] = set()
        self._places = ParamPlaces()
        self._next_steps: dict[str, float] = {}
        self._untold_tags = dict.fromkeys(tags)
        self._sets = StringSets()
        self._texts: dict[str, int] = {}
        self._many_texts: dict[str, Text] = {}
        self._printed = Printed()

    def take(self) -> list[Event]:
        """Return the events that are ready, and forget them."""
        ready, self.ready = self.ready, []
        return ready

    def finish(self) -> list[Event]:
        """Return what was still being collected."""
        self._flush()
        for each in (*self._printed.unended(), *self._many_texts.values()):
            self._put(each)
        return self.take()

    # Values

    def number(self, name: str, value: float, step: float | None, time: float) -> None:
        """Take a value of a series."""
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
        """Return a step that is an int: the next one if none was given; a fraction is kept as a value beside it."""
        if step is None:
            step = self._next_steps.get(name, 0)
        else:
            self.number(f"{name}/step", step, step // 1, time)
        self._next_steps[name] = step + 1
        return int(step // 1)

    def param(self, name: str, value: Any, time: float) -> None:
        """Take a value that stands alone."""
        if name in OF_THE_RUN or self._places.is_known(name, value):
            return
        if name in self._in_params:
            self._flush()
        if self._params is None:
            self._flush()
            self._params = Params(time, {})
        self._in_params.add(name)
        put(self._params.values, self._places.place(name, value), value)

    def moment(self, name: str, milliseconds: float, time: float) -> None:
        """Take a date that stands alone."""
        try:
            moment = datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat()
        except (ValueError, OverflowError, OSError):
            self._report.leave_out(name, f"there is no date {milliseconds:g} ms after 1970")
            return
        self.param(name, moment, time)

    def text(self, name: str, value: str, step: float | None, time: float) -> None:
        """Take a text of a series, or a piece of what was printed."""
        if name.endswith(("/stdout", "/stderr")) and name.partition("/")[0] in _PRINTED:
            if (lines := self._printed.take(name, value, time)) is not None:
                self._put(lines)
            return
        whole = self._whole_step(name, step, time) if step is None else int(step // 1)
        self._next_steps[name] = whole + 1
        self._texts[name] = count = self._texts.get(name, 0) + 1
        if count <= _MOST_SINGLE_TEXTS:
            self._put(Text(time, name, ["value"], [[value]], whole))
            return
        many = self._many_texts.setdefault(name, Text(time, name, ["step", "time", "value"], [], whole))
        many.data.append([whole if step is None else step, time, value])
        if len(many.data) >= _ROWS_OF_TEXT:
            self._put(self._many_texts.pop(name))

    def histogram(self, name: str, histogram: Histogram, step: float, time: float) -> None:
        """Take a histogram of a series."""
        self._put(HistogramEvent(time, name, histogram, int(step // 1)))

    # Sets

    def add_strings(self, name: str, values: Sequence[str], time: float) -> None:
        """Take what was added to a set of strings."""
        if name == TAGS:
            self._tags(values, time)
        else:
            self.param(name, self._sets.add(name, values), time)

    def assign_strings(self, name: str, values: Sequence[str], time: float) -> None:
        """Take a set of strings that replaces what was in it."""
        if name == TAGS:
            self._tags(values, time)
        else:
            self.param(name, self._sets.assign(name, values), time)

    def remove_strings(self, name: str, values: Sequence[str], time: float) -> None:
        """Take what was removed from a set of strings."""
        if name != TAGS and (left := self._sets.remove(name, values)) is not None:
            self.param(name, left, time)

    def _tags(self, values: Sequence[str], time: float) -> None:
        new = [value for value in dict.fromkeys(values) if value in self._untold_tags]
        for each in new:
            del self._untold_tags[each]
        if new:
            self._put(Tags(time, new))

    # Files

    def file(self, name: str, path: Path, time: float, step: float | None = None) -> None:
        """Take a file that is on disk."""
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe or a device might never end
                raise OSError("it is no regular file")
            stored = self._files.put_file(path)
        except (OSError, ValueError) as error:  # a path may hold what no path can
            reason = getattr(error, "strerror", None) or error
            self._report.leave_out(name, f"{path}: {reason}")
            return
        self._put_file(name, stored, path.suffix, time, step)

    def content(self, name: str, encoded: str, suffix: str, time: float) -> None:
        """Take a file whose content is given, in base64."""
        data = self._decoded(name, encoded)
        if data is not None:
            suffix = suffix if _SUFFIX.fullmatch(suffix) else ""
            self._put_file(name, self._files.put_bytes((data, suffix)), suffix, time, None)

    def picture(self, name: str, encoded: str | None, caption: str | None, step: float | None, time: float) -> None:
        """Take a picture of a series, in base64."""
        whole = self._whole_step(name, step, time) if step is None else int(step // 1)
        self._next_steps[name] = whole + 1
        if encoded is None:
            self._report.leave_out(name, "the client did not keep this picture, as it was too large")
            return
        data = self._decoded(name, encoded)
        if data is not None:
            self._put(Image(time, name, [self._files.put_bytes((data, ".png"), caption=caption)], whole))

    def _put_file(self, name: str, stored: MediaFile, suffix: str, time: float, step: float | None) -> None:
        whole = None if step is None else int(step // 1)
        if suffix.lower() in PICTURES:
            self._put(Image(time, name, [stored], whole))
        else:
            details = {} if whole is None else {"step": step}
            self._put(Artifact(time, stored.path, name, "file", metadata=details))

    def _decoded(self, name: str, encoded: str) -> bytes | None:
        try:
            return base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            self._report.leave_out(name, "what the client kept of it is no base64")
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


def of_densities(densities: Iterable[float], edges: Sequence[float]) -> list[float]:
    """Return the share of each bin: a histogram in rankzero has counts, which densities do not tell."""
    widths = (high - low for low, high in pairwise(edges))
    return [density * width for density, width in zip(densities, widths, strict=False)]

"""Decode records that contain only numbers; those of the same form together.

Records of the same form differ only in time, step and numbers. One of them is decoded field by field. Then numpy
compares the bytes that must be the same in all records, and reads the others as columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import SummaryMetadata

from rankzero.events.structs import Metrics, Rewind
from rankzero.events.trust import LATEST
from rankzero.files.writing import open_regular
from rankzero.importers.event_lines import MetricsLines, metrics_lines, values_of
from rankzero_tensorboard.event_file import MARK_NUMBER
from rankzero_tensorboard.importing.records import FEW, SMALL, Block, by_size, read_blocks

_MOST_FORMS = 256
"""The number of forms of the same size that are known at a time."""
_MOST_NEW_FORMS = 32
"""The number of forms of the same size that are added for one block."""

# Field numbers → kinds in the wire format
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_TIME, _STEP, _SUMMARY = 1, 2, 5
_EVENT = {_TIME: _EIGHT_BYTES, _STEP: _VARINT, _SUMMARY: _BYTES, MARK_NUMBER: _EIGHT_BYTES}
_TAG, _SIMPLE, _TENSOR, _METADATA = 1, 2, 8, 9
_VALUE = {_TAG: _BYTES, _SIMPLE: _FOUR_BYTES, _TENSOR: _BYTES, _METADATA: _BYTES}
_DTYPE, _SHAPE, _CONTENT, _FLOATS, _DOUBLES = 1, 2, 4, 5, 6
_TENSOR_FIELDS = {_DTYPE: _VARINT, _SHAPE: _BYTES, _CONTENT: _BYTES, _FLOATS: _BYTES, _DOUBLES: _BYTES}
_NOWHERE = slice(0, 0)
_DTYPES = {b"\1": "<f4", b"\2": "<f8"}


class Columns(NamedTuple):
    """The data of a block of records; each column has an item for each record."""

    has_numbers: Any
    """Whether the record was decoded: an array of bool. Records with other data, or of a rare form, are not."""
    times: Any
    """An array of float64."""
    steps: Any
    """An array of int64."""
    values: Any
    """The values of each record, from `values_of`: an array of objects."""
    counts: Any
    """The number of values in each record: an array of int64."""

    @classmethod
    def empty(cls, count: int) -> Columns:
        """Return columns for ``count`` records, of which none is decoded."""
        times, steps, values, counts = (np.empty(count, kind) for kind in (np.float64, np.int64, object, np.int64))
        return cls(np.zeros(count, bool), times, steps, values, counts)

    def lines(self, start: int, end: int) -> MetricsLines:
        """Return the metrics of the records from ``start`` to ``end``, which have numbers."""
        part = slice(start, end)
        times, steps, values = (each[part].tolist() for each in (self.times, self.steps, self.values))
        return metrics_lines(times, steps, values, int(self.counts[part].sum()))


class ScalarDecoder:
    """Decodes the records of a file that contain only numbers.

    Args:
        name_of: returns the metric's name for a tag.
        plugins: tag → the name of its plugin of TensorBoard; new tags are added.
    """

    def __init__(self, name_of: Callable[[str], str], plugins: dict[str, str]) -> None:
        self._name_of = name_of
        self._plugins = plugins
        self._forms: dict[int, list[_Form]] = {}

    def decode(self, block: Block) -> Columns:
        """Return the times, steps and numbers of the records."""
        columns = Columns.empty(len(block.starts))
        for size, indices in by_size(block):
            if size <= SMALL and len(indices) > FEW:
                self._decode_size(block, size, indices, columns)
        return columns

    def _decode_size(self, block: Block, size: int, indices: Any, columns: Columns) -> None:
        """Decode records of the same size into ``columns``."""
        rows = block.rows(indices, -(-size // 8) * 8)
        known = self._forms.get(size, [])
        forms = []
        new = (_Form(block.content(indices[0]), self._name_of, self._plugins) for _ in range(_MOST_NEW_FORMS))
        for form in chain(known, new):
            is_same = form.matches(rows)
            if form.has_numbers:
                forms.append(form)
                if is_same.any():
                    form.decode(rows[is_same], indices[is_same], columns)
            indices, rows = indices[~is_same], rows[~is_same]
            if not len(indices):
                break
        self._forms[size] = [*forms, *known[len(forms) :]][-_MOST_FORMS:]


def read_numbers(path: Path) -> Iterator[Metrics | Rewind]:
    """Yield the numbers and rewinds in an event file that rankzero wrote; damaged records are skipped."""
    decoder = ScalarDecoder(str, {})
    with open_regular(path) as file:
        for block in read_blocks(file, 0, lambda why: None):
            columns = decoder.decode(block)
            for index, has_numbers in enumerate(columns.has_numbers):
                if has_numbers:
                    yield from columns.lines(index, index + 1).events()
                else:
                    yield _numbers_of(Event.FromString(block.content(index)))


def _numbers_of(event: Event) -> Metrics | Rewind:
    if event.session_log.status == SessionLog.START:
        return Rewind(event.wall_time, event.step - 1)
    values = {each.tag: each.simple_value for each in event.summary.value if each.HasField("simple_value")}
    return Metrics(event.wall_time, event.step, values)


class _Form:
    """The form of a record. One that does not contain only numbers has no values, and matches only itself.

    Args:
        record: the content of a record.
        name_of: as in `ScalarDecoder`.
        plugins: as in `ScalarDecoder`.
    """

    def __init__(self, record: bytes, name_of: Callable[[str], str], plugins: dict[str, str]) -> None:
        width = -(-len(record) // 8) * 8
        self._same = np.zeros(width, np.uint8)
        self._same[: len(record)] = 0xFF
        self._time = self._step = _NOWHERE
        self._numbers: dict[str, tuple[slice, str]] = {}
        try:
            self._read(record, name_of, plugins)
        except (ValueError, KeyError, DecodeError):
            self._numbers = {}
            self._same[: len(record)] = 0xFF
        mask = self._same.view(np.uint64)
        self._same_bits = mask, np.frombuffer(record.ljust(width, b"\0"), np.uint64) & mask

    def _read(self, record: bytes, name_of: Callable[[str], str], plugins: dict[str, str]) -> None:
        event = _message(record, slice(0, len(record)), _EVENT)
        self._time = event[_TIME]
        self._same[self._time] = self._same[event.get(MARK_NUMBER, _NOWHERE)] = 0
        self._step = event.get(_STEP, _NOWHERE)
        self._same[self._step] = 0x80  # whether another byte of the step follows
        for number, _, part in _fields(record, event[_SUMMARY]):
            if number != 1:
                raise ValueError("an unknown field of a summary")
            value = _message(record, part, _VALUE)
            tag = record[value[_TAG]].decode()
            if _METADATA in value:
                metadata = SummaryMetadata.FromString(record[value[_METADATA]])
                plugins.setdefault(tag, metadata.plugin_data.plugin_name)
            if _SIMPLE in value:
                where, dtype = value[_SIMPLE], "<f4"
            elif plugins.get(tag) == "scalars":
                where, dtype = _number_in(record, value[_TENSOR])
            else:
                raise ValueError("not a number")
            name = name_of(tag)
            if name in self._numbers:
                raise ValueError("two values of one metric")
            self._numbers[name] = where, dtype
            self._same[where] = 0

    @property
    def has_numbers(self) -> bool:
        """Whether it is a form of numbers."""
        return bool(self._numbers)

    def matches(self, rows: Any) -> Any:
        """Return which records, as `Block.rows` returns them, have this form."""
        words = rows.view(np.uint64).reshape(len(rows), -1).T
        bits = zip(words, *self._same_bits, strict=True)
        return np.logical_and.reduce([word & mask == same for word, mask, same in bits])

    def decode(self, rows: Any, indices: Any, columns: Columns) -> None:
        """Write the numbers of records of this form to ``columns``; none if one has an invalid time."""
        times = _column(rows, self._time.start, "<f8")
        if not (np.abs(times) < LATEST).all():
            return
        steps = np.zeros(len(rows), np.uint64)
        for place in range(self._step.stop - self._step.start):
            byte = _column(rows, self._step.start + place, "u1")
            steps |= (byte & 0x7F).astype(np.uint64) << np.uint64(7 * place)
        numbers = {
            name: _column(rows, where.start, dtype).astype(np.float64).tolist()
            for name, (where, dtype) in self._numbers.items()
        }
        columns.times[indices] = times
        columns.steps[indices] = steps.view(np.int64)
        columns.values[indices] = np.fromiter(values_of(numbers), object, len(rows))
        columns.counts[indices] = len(numbers)
        columns.has_numbers[indices] = True


def _column(rows: Any, start: int, dtype: str) -> Any:
    """Return the value of type ``dtype`` that begins at a byte of each record."""
    return np.ndarray(len(rows), dtype, rows, start, rows.itemsize)


def _number_in(record: bytes, tensor: slice) -> tuple[slice, str]:
    """Return where the number of a tensor without dimensions is, and its type."""
    fields = _message(record, tensor, _TENSOR_FIELDS)
    dtype = _DTYPES.get(record[fields[_DTYPE]])
    numbers = [fields[each] for each in (_CONTENT, _FLOATS if dtype == "<f4" else _DOUBLES) if each in fields]
    shape = fields.get(_SHAPE, _NOWHERE)
    if dtype is None or shape.start != shape.stop or len(numbers) != 1 or len(record[numbers[0]]) != int(dtype[2]):
        raise ValueError("not one number")
    return numbers[0], dtype


def _message(data: bytes, where: slice, kinds: Mapping[int, int]) -> dict[int, slice]:
    """Return number → position of the fields of a message.

    Raises:
        ValueError: a field is repeated, missing in ``kinds``, or of another kind.
    """
    found: dict[int, slice] = {}
    for number, kind, place in _fields(data, where):
        if kinds.get(number) != kind or number in found:
            raise ValueError("an unexpected field")
        found[number] = place
    return found


def _fields(data: bytes, where: slice) -> Iterator[tuple[int, int, slice]]:
    """Yield the number, kind and position of each field of a message.

    Raises:
        ValueError: the message is invalid.
    """
    position = where.start
    while position < where.stop:
        key, position = _varint(data, position)
        number, kind = key >> 3, key & 7
        start = position
        match key & 7:
            case 0:
                _, position = _varint(data, position)
            case 1:
                position += 8
            case 2:
                size, start = _varint(data, position)
                position = start + size
            case 5:
                position += 4
            case _:
                raise ValueError("an unknown kind of field")
        if position > where.stop:
            raise ValueError("the field is too long")
        yield number, kind, slice(start, position)


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Return a number and where it ends."""
    for end in range(position, min(position + 10, len(data))):
        if data[end] < 0x80:
            return sum((byte & 0x7F) << 7 * place for place, byte in enumerate(data[position : end + 1])), end + 1
    raise ValueError("the number does not end")

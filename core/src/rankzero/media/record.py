"""`Media`: one record for all kinds of logged data except numbers."""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from rankzero.media.encoders import Histogram, as_table, histogram, is_picture
from rankzero.media.store import MediaFile, MediaStore, captioned
from rankzero.values import to_text

_DIMENSIONS = {"image": 3, "audio": 2, "video": 4, "pointcloud": 2}
"""Kind → the number of dimensions of an item; an array with one more is a batch of items."""


@dataclass(frozen=True)
class Media:
    """One call of a verb such as ``log_image``. Its files are made when `files` asks for them."""

    kind: str
    """What follows ``log_`` in the verb's name: ``image``, ``audio``, ``table``, …"""
    key: str
    """The name that the items share."""
    items: Any
    """The argument of the verb: one item, or a list of items."""
    captions: Any = None
    """A text for each item, or None."""
    step: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further keyword arguments for trackers that support them, such as masks."""
    encoding: Mapping[str, Any] = field(default_factory=dict)
    """How items become files: the ``sample_rate``, the ``fps``, the ``bins`` of a histogram."""
    open_store: Callable[[], MediaStore] = field(kw_only=True, repr=False, compare=False)
    """Returns the store in which files are made."""

    def captioned(self) -> Iterator[tuple[Any, str | None]]:
        """Yield each item with its caption."""
        is_batch = getattr(self.items, "ndim", 0) == _DIMENSIONS.get(self.kind, 0) + 1
        return captioned(list(self.items) if is_batch else self.items, self.captions)

    def files(self) -> list[MediaFile]:
        """Return the items as files with absolute paths: a table or text as CSV, a histogram or model as JSON.

        Under a Run most items are files already, and are returned unchanged.
        """
        store = self.open_store()
        directory = store.directory.absolute()
        return [msgspec.structs.replace(file, path=str(directory / file.path)) for file in self._make_files(store)]

    def _make_files(self, store: MediaStore) -> Iterator[MediaFile]:
        if self.kind in ("table", "text"):
            columns, rows = self.table()
            text = as_csv(columns, ([_written(cell, store) for cell in row] for row in rows))
            yield store.put_bytes((text.encode(), ".csv"))
        elif self.kind == "histogram":
            yield store.put_bytes((msgspec.json.encode(self.histogram()), ".json"))
        else:
            for item, caption in self.captioned():
                if not isinstance(item, MediaFile):
                    yield self._put(store, item, caption)
                else:
                    yield item if caption is None else msgspec.structs.replace(item, caption=caption)

    def stored(self) -> list[MediaFile]:
        """Return copies of the items in the store, with paths relative to it."""
        store = self.open_store()
        return [self._put(store, item, caption) for item, caption in self.captioned()]

    def _put(self, store: MediaStore, item: Any, caption: str | None) -> MediaFile:
        return store.put(self.kind, item, caption, key=to_text(self.key), **self.encoding)

    def table(self) -> tuple[list[str], list[list[Any]]]:
        """Return the columns and rows of a table, or of a text."""
        return self._table

    @functools.cached_property
    def _table(self) -> tuple[list[str], list[list[Any]]]:  # cached, because the rows may be an iterator
        return as_table(*self.items)

    def only_text(self) -> str | None:
        """Return the text, if there is only one; None for several texts, and for other kinds."""
        columns, rows = self.table() if self.kind == "text" else ([], [])
        return str(rows[0][0]) if len(columns) == len(rows) == 1 else None

    def histogram(self) -> Histogram:
        """Return the values of a histogram, counted."""
        return histogram(self.items, **self.encoding)


def as_csv(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Return a table as CSV."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([columns, *rows])
    return text.getvalue()


def _written(cell: Any, store: MediaStore) -> Any:
    """Return a cell of a table for CSV: for a picture the path of its file, relative to the store if it is there."""
    if is_picture(cell):
        cell = store.put("image", cell)
    if not isinstance(cell, MediaFile):
        return cell
    path, directory = Path(cell.path), store.directory.absolute()
    return str(path.relative_to(directory) if path.is_relative_to(directory) else path)

"""W&B's data types, which log themselves to a run."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from rankzero.compat.wandb.mappings import Named
from rankzero.media.encoders import as_table, encode_image, histogram, import_pillow
from rankzero.media.store import MediaFile, MediaStore
from rankzero.messages import OnceWarner
from rankzero.run.run import Run
from rankzero.values import size_of, to_jsonable, to_number, to_text

_LONGEST_LIST = 32
"""Arrays with more elements become histograms."""


class Media:
    """A file, or data for one."""

    kind: ClassVar[str]
    """The name of the Run's method after ``log_``."""

    def __init__(self, item: Any, caption: str | None = None, **encoding: Any) -> None:
        self.item = os.fspath(item) if isinstance(item, os.PathLike) else item
        self.caption = caption
        self.encoding = {name: value for name, value in encoding.items() if value is not None}
        self.extra: dict[str, Any] = {}
        """Masks and boxes, which only some trackers show."""

    def stored(self, store: MediaStore) -> MediaFile:
        """Store the file, and return it with its absolute path."""
        return store.put(self.kind, self.item, self.caption, **self.encoding).under(store.directory.absolute())

    @classmethod
    def log(cls, run: Run, key: str, group: Sequence[Media], step: int) -> None:
        """Log several items of one class with the same encoding."""
        names = dict.fromkeys(name for each in group for name in each.extra)
        extra = {name: [each.extra.get(name) for each in group] for name in names}
        captions = [each.caption for each in group]
        given = captions if any(text is not None for text in captions) else None
        verb = getattr(run, f"log_{cls.kind}")
        verb(key, [each.item for each in group], step, given, **extra, **group[0].encoding)


class Image(Media):
    """An image: a path, a PIL image, a figure, an array (H, W, C), or a tensor (C, H, W)."""

    kind = "image"

    def __init__(
        self, data_or_path: Any, mode: str | None = None, caption: str | None = None, grouping: Any = None,
        classes: Any = None, boxes: Any = None, masks: Any = None, **_: Any,
    ) -> None:  # fmt: skip
        if isinstance(data_or_path, Image):
            caption, data_or_path = caption or data_or_path.caption, data_or_path.item
        super().__init__(data_or_path, caption)
        with suppress(ImportError):  # then log() warns
            if not isinstance(self.item, str | bytes):
                self.item = encode_image(_upright(self.item))[0]  # the script may change the array afterwards
            if mode is not None:
                self.item = encode_image(self.image.convert(mode))[0]
        self.extra = {name: each for name, each in (("classes", classes), ("boxes", boxes), ("masks", masks)) if each}

    @property
    def image(self) -> Any:
        """The image as a PIL image."""
        return import_pillow().open(io.BytesIO(self.item) if isinstance(self.item, bytes) else self.item)


class Classes(list[Mapping[str, Any]]):
    """The classes in images: mappings with an ``id`` and a ``name``."""


def _upright(data: Any) -> Any:
    """Return image data with the channels in the last dimension, and without other dimensions of size 1."""
    if hasattr(data, "permute") and data.ndim == 3:
        return data.permute(1, 2, 0)
    return data.squeeze() if getattr(data, "ndim", 0) > 3 else data


class Audio(Media):
    """Audio: a path, or samples with their rate."""

    kind = "audio"

    def __init__(self, data_or_path: Any, sample_rate: int | None = None, caption: str | None = None) -> None:
        super().__init__(data_or_path, caption, sample_rate=sample_rate)


class Video(Media):
    """A video: a path, an open file, frames (T, C, H, W), or a batch of them (B, T, C, H, W)."""

    kind = "video"

    def __init__(self, data_or_path: Any, caption: str | None = None, fps: int | None = None, *_: Any, **__: Any):
        super().__init__(_content(data_or_path), caption, fps=fps)

    @classmethod
    def log(cls, run: Run, key: str, group: Sequence[Media], step: int) -> None:
        batches = [(each, list(each.item) if getattr(each.item, "ndim", 0) == 5 else [each.item]) for each in group]
        super().log(run, key, [Media(item, each.caption, **each.encoding) for each, b in batches for item in b], step)


class Object3D(Media):
    """Points: an array (N, 3), (N, 4) or (N, 6), a scene ``{"points": …, "boxes": …}``, or the path of a 3D file."""

    kind = "pointcloud"

    def __init__(self, data_or_path: Any, caption: str | None = None, **_: Any) -> None:
        is_scene = isinstance(data_or_path, Mapping)
        super().__init__(data_or_path["points"] if is_scene else getattr(data_or_path, "name", data_or_path), caption)
        self.extra = {name: value for name, value in data_or_path.items() if name != "points"} if is_scene else {}

    @classmethod
    def log(cls, run: Run, key: str, group: Sequence[Media], step: int) -> None:
        if clouds := [each for each in group if not isinstance(each.item, str)]:
            super().log(run, key, clouds, step)
        for each in group:
            if isinstance(each.item, str):
                run.log_artifact(each.item, key, "object3D", metadata={"step": step, "caption": each.caption})


class Plotly(Media):
    """A figure of matplotlib or plotly."""

    kind = "figure"

    @classmethod
    def log(cls, run: Run, key: str, group: Sequence[Media], step: int) -> None:
        for each in group:
            run.log_figure(key, each.item, step)


class Html(Plotly):
    """A page: HTML, an open file, or the path of an .html file."""

    def __init__(self, data: Any, inject: bool = True, data_is_not_path: bool = False) -> None:
        is_path = not data_is_not_path and str(data).endswith(".html") and os.path.isfile(data)
        self.html = Path(data).read_text() if is_path else _content(data)
        super().__init__(self)

    def write_html(self, file: Any) -> None:
        """Write the page, like a plotly figure."""
        file.write(self.html)


def _content(data: Any) -> Any:
    return data.read() if hasattr(data, "read") and not isinstance(data, os.PathLike) else data


class Histogram:
    """Numbers, counted at once, or a result of ``numpy.histogram``."""

    def __init__(self, sequence: Any = None, np_histogram: Any = None, num_bins: int = 64) -> None:
        self.counted = histogram(sequence if np_histogram is None else tuple(np_histogram), num_bins)
        self.histogram, self.bins = self.counted.counts, self.counted.edges


class Table(Named):
    """A table, to which rows and columns can be added."""

    def __init__(
        self, columns: Sequence[Any] | None = None, data: Any = None, rows: Any = None, dataframe: Any = None,
        *_: Any, log_mode: str | None = None, **__: Any,
    ) -> None:  # fmt: skip
        data = rows if data is None else data
        if dataframe is not None or hasattr(data, "columns"):
            columns, data = as_table(None, None, data if dataframe is None else dataframe)
        self.columns = ["Input", "Output", "Expected"] if columns is None else list(columns)
        self.data: list[list[Any]] = [] if data is None else [list(row) for row in data]
        self._logged = 0 if log_mode == "INCREMENTAL" else None

    def add_data(self, *data: Any) -> None:
        if len(data) != len(self.columns):
            raise ValueError(f"the table has {len(self.columns)} columns, {self.columns}, and not {len(data)}")
        self.data.append(list(data))

    add_row = add_data

    def add_column(self, name: str, data: Iterable[Any], optional: bool = False) -> None:
        cells = list(data)
        self.data = self.data or [[] for _ in cells]
        if len(cells) != len(self.data):
            raise ValueError(f"the table has {len(self.data)} rows, and not {len(cells)}")
        self.columns.append(name)
        for row, cell in zip(self.data, cells, strict=True):
            row.append(cell)

    def get_column(self, name: str, convert_to: str | None = None) -> Any:
        column = [row[self.columns.index(name)] for row in self.data]
        if convert_to != "numpy":
            return column
        import numpy as np

        return np.array(column)

    def iterrows(self) -> Iterator[tuple[int, list[Any]]]:
        """Yield the rows with their numbers."""
        yield from enumerate(self.data)

    def add_computed_columns(self, fn: Callable[[int, dict[Any, Any]], Mapping[str, Any]]) -> None:
        """Add the columns that ``fn`` returns for the number of a row and its cells by column."""
        added = [fn(number, dict(zip(self.columns, row, strict=True))) for number, row in self.iterrows()]
        for name in dict.fromkeys(name for cells in added for name in cells):
            self.add_column(name, [cells.get(name) for cells in added])

    def get_dataframe(self) -> Any:
        import pandas as pd

        return pd.DataFrame(self.data, columns=self.columns)

    def written(self, store: MediaStore, start: int = 0) -> tuple[list[str], list[list[Any]]]:
        """Return columns and rows with stored media; a column of lists of media becomes one for each item."""
        columns: list[str] = []
        rows: list[list[Any]] = [[] for _ in self.data[start:]]
        for index, name in enumerate(self.columns):
            lists = [_media_of(row[index], store) for row in self.data[start:]]
            width = max([1, *map(len, lists)])
            columns += [to_text(name), *(f"{name} {number}" for number in range(2, width + 1))]
            for row, items in zip(rows, lists, strict=True):
                row += items + [None] * (width - len(items))
        return columns, rows

    def log(self, run: Run, key: str, step: int) -> None:
        """Log all rows, or the new rows of an incremental table."""
        columns, rows = self.written(run.media_store, self._logged or 0)
        self._logged = None if self._logged is None else len(self.data)
        run.log_table(key, columns, rows, step=step)


def _media_of(cell: Any, store: MediaStore) -> list[Any]:
    """Return the items of a list with media, which are stored; any other cell as the only item."""
    items = cell if isinstance(cell, list) and any(isinstance(each, Media) for each in cell) else [cell]
    return [each.stored(store) if isinstance(each, Media) else each for each in items]


def is_metric(value: Any) -> bool:
    """Return whether a value is a number; does not wait for one on an accelerator."""
    if value.__class__ in (float, int, bool):
        return True
    return not hasattr(value, "itertuples") and (size_of(value) == 1 or to_number(value) is not None)


def write(run: Run, key: str, value: Any, step: int, warner: OnceWarner) -> None:
    """Log a value that is not a number."""
    items = [each for each in value if each is not None] if isinstance(value, list | tuple) else [value]
    if objects := [each for each in items if isinstance(each, Media | Histogram | Table)]:
        _write_objects(run, key, objects, step)
        if others := [type(each).__name__ for each in items if not isinstance(each, Media | Histogram | Table)]:
            warner.warn(
                f"log {key}", f"the list {key!r} was logged without items that are not media: {', '.join(others)}"
            )
    elif hasattr(value, "itertuples"):
        run.log_table(key, dataframe=value, step=step)
    elif hasattr(value, "savefig") or hasattr(value, "write_html"):
        run.log_figure(key, value, step)
    elif (size_of(value) or 0) > _LONGEST_LIST:
        run.log_histogram(key, value, step, bins=_LONGEST_LIST)
    else:
        run.log_text(key, ["value"], [[to_jsonable(value)]], step=step)


def _write_objects(run: Run, key: str, objects: Sequence[Any], step: int) -> None:
    groups: dict[Any, list[Media]] = {}
    for each in objects:
        if isinstance(each, Table):
            each.log(run, key, step)
        elif isinstance(each, Histogram):
            run.log_histogram(key, each.counted, step)
        else:
            groups.setdefault((type(each), *each.encoding.items()), []).append(each)
    for (kind, *_), group in groups.items():
        kind.log(run, key, group, step)

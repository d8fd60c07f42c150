"""`MediaStore`: store media as files that are named by their content.

Naming a file by its SHA-256 makes writing idempotent: an image logged in every epoch is stored once, and a reader can
verify the content. The modules for hashing and copying take 15 ms to import, and are imported with the first file.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from rankzero.errors import PluginNotInstalledError, UnsafePathError
from rankzero.files.writing import inside, link_or_copy, make_directory, open_regular, temporary_in, write_file
from rankzero.media.encoders import (
    ENCODERS,
    Encoded,
    encode_image,
    encode_raw,
    import_fork_safe,
    import_pillow,
    is_picture,
)
from rankzero.messages import OnceWarner, warn_user
from rankzero.rundir.layout import MEDIA
from rankzero.values import NON_FINITE, as_list, safe_isinstance, to_jsonable, to_text

_CHUNK = 1 << 20
_LONGEST_SUFFIX = 32


class MediaFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """A logged file. It is an `os.PathLike`, and ``numpy.asarray`` decodes it if it is an image.

    In a journal ``path`` is relative to the run's directory; a logger gets it absolute.
    """

    path: str
    name: str = ""
    """The name of the original file, if there was one."""
    caption: str | None = None

    def __fspath__(self) -> str:
        return self.path

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        import numpy as np

        with import_pillow().open(self.path) as image:
            return np.asarray(image, dtype=dtype)

    def under(self, directory: Path) -> MediaFile:
        """Return the same file with its path made absolute.

        Raises:
            UnsafePathError: the path is not in the directory.
        """
        return msgspec.structs.replace(self, path=str(inside(directory, self.path)))


class MediaStore:
    """Writes files into ``directory/media``, each named by its SHA-256; paths are relative to ``directory``."""

    def __init__(self, directory: Path, warner: OnceWarner | None = None) -> None:
        self.directory = directory
        self._warner = OnceWarner() if warner is None else warner

    def put_bytes(self, encoded: Encoded, name: str = "", caption: str | None = None) -> MediaFile:
        """Store bytes."""
        hashlib = import_fork_safe("hashlib")

        data, suffix = encoded
        relative = _relative(hashlib.sha256(data).hexdigest() + suffix)
        if not (self.directory / relative).exists():
            self._write(relative, data)
        return MediaFile(relative.as_posix(), name, caption)

    def put_file(self, source: str | os.PathLike[str], caption: str | None = None) -> MediaFile:
        """Store a copy of an existing file."""
        with open_regular(source) as file:
            return self.put_open(file, Path(source).name, caption)

    def put_open(self, file: BinaryIO, name: str, caption: str | None = None, size: int | None = None) -> MediaFile:
        """Store a copy of the content of an open file, at most ``size`` bytes; ``name`` is the file's name."""
        hashlib = import_fork_safe("hashlib")

        suffix = Path(name).suffix
        suffix = suffix if suffix.isascii() and len(suffix) <= _LONGEST_SUFFIX else ""
        digest = hashlib.sha256()
        left = sys.maxsize if size is None else size
        with self._new_file() as part:
            with open(part, "wb") as copy:
                while left and (chunk := file.read(min(_CHUNK, left))):  # hashed as copied: it may be growing
                    digest.update(chunk)
                    copy.write(chunk)
                    left -= len(chunk)
            relative = _relative(digest.hexdigest() + suffix)
            self._keep(part, relative)
        return MediaFile(relative.as_posix(), name, caption)

    def put(self, kind: str, item: Any, caption: str | None = None, *, key: str = "", **encoding: Any) -> MediaFile:
        """Store one item of a kind in `ENCODERS`: a path, or a value for its encoder, which also gets ``encoding``.

        An item that cannot be encoded is stored as raw numbers, with one warning for each key.
        """
        if isinstance(item, MediaFile) and caption is None:
            caption = item.caption
        item = _unwrapped(item)
        if isinstance(item, str | os.PathLike):
            return self.put_file(item, caption)
        try:
            encoded = ENCODERS[kind](item, **encoding)
        except (PluginNotInstalledError, TypeError, ValueError) as error:
            try:
                encoded = encode_raw(item)
            except (TypeError, ValueError):  # not numbers
                raise error from None
            subject = f"{kind} {key!r}" if key else kind
            self._warner.warn(f"raw {subject}", f"{subject}: {error}; kept as raw numbers instead")
        return self.put_bytes(encoded, caption=caption)

    def table(self, columns: Sequence[str], data: Iterable[Iterable[Any]]) -> MediaFile:
        """Store a table as JSON ``{"columns": […], "data": [[…], …]}``.

        A picture in a cell (see `is_picture`) becomes ``{"media": …}``, a `MediaFile`; NaN and ±Infinity become
        ``{"float": "NaN"}``.
        """
        rows = [[self._cell(cell) for cell in row] for row in data]
        names = [to_text(name) for name in columns]
        return self.put_bytes((msgspec.json.encode({"columns": names, "data": rows}), ".json"))

    def put_directory(self, files: Mapping[str, MediaFile]) -> str:
        """Store a directory, named by its content, of files that are in the store; return its path.

        Args:
            files: relative path in the directory → the file.

        Raises:
            UnsafePathError: a path leads out of the directory.
            OSError: a path is a file and a directory at once, or nothing can be written.
        """
        hashlib = import_fork_safe("hashlib")

        content = msgspec.json.encode(sorted((path, file.path) for path, file in files.items()))
        relative = _relative(hashlib.sha256(content).hexdigest())
        for path, file in files.items():
            inside(self.directory / relative, path)
            self._link(file, relative / path)
        return relative.as_posix()

    def _write(self, relative: Path, data: bytes) -> None:
        write_file(make_directory(self.directory, relative.parent) / relative.name, data)

    def _new_file(self) -> AbstractContextManager[Path]:
        return temporary_in(make_directory(self.directory, MEDIA))

    def _keep(self, part: Path, relative: Path) -> None:
        os.replace(part, make_directory(self.directory, relative.parent) / relative.name)

    def _link(self, file: MediaFile, relative: Path) -> None:
        link_or_copy(inside(self.directory, file.path), make_directory(self.directory, relative.parent) / relative.name)

    def _cell(self, cell: Any) -> Any:
        try:
            if isinstance(cell, MediaFile):
                return {"media": self.put_file(cell)}
            if is_picture(picture := _unwrapped(cell)):
                return {"media": self.put_bytes(encode_image(picture))}
        except OSError:
            raise
        except Exception:  # a broken object must not lose the other cells
            pass
        plain = to_jsonable(cell)
        return (
            {"float": plain}
            if isinstance(plain, str) and not safe_isinstance(cell, str) and plain in NON_FINITE
            else plain
        )


class UnwrittenStore(MediaStore):
    """Names files as `MediaStore` does, without writing them: for an import that only counts."""

    def _write(self, relative: Path, data: bytes) -> None:
        pass

    def _new_file(self) -> AbstractContextManager[Path]:
        return nullcontext(Path(os.devnull))

    def _keep(self, part: Path, relative: Path) -> None:
        pass

    def _link(self, file: MediaFile, relative: Path) -> None:
        pass


def captioned(items: Any, captions: Any) -> Iterator[tuple[Any, str | None]]:
    """Yield each item with its caption; a single item, or caption, need not be in a list."""
    each = list(items) if isinstance(items, list | tuple) else [items]
    texts = as_list(captions)
    if len(texts) not in (0, len(each)):
        warn_user(f"{len(each)} items were logged with {len(texts)} captions; give one for each, or none")
    padded = (texts + [None] * len(each))[: len(each)]
    return zip(each, (None if text is None else to_text(text) for text in padded), strict=True)


def _relative(stored: str) -> Path:
    return Path(MEDIA, stored[:2], stored)


def read_table(path: str | os.PathLike[str]) -> tuple[list[str], list[list[Any]]]:
    """Read a table written by `MediaStore.table`: (columns, rows), with images as `MediaFile` with absolute paths.

    Raises:
        UnsafePathError: a picture is not in the run's directory.
    """
    path = Path(path)
    if len(path.parts) < 4 or path.parts[-3] != MEDIA:
        raise UnsafePathError(f"{path} is not in a run's {MEDIA}/")
    with open_regular(path) as file:
        table = json.loads(file.read())
    directory = path.parents[2]
    return table["columns"], [[_read_cell(cell, directory) for cell in row] for row in table["data"]]


def _read_cell(cell: Any, directory: Path) -> Any:
    match cell:
        case {"media": {"path": str()} as file} if len(cell) == 1:
            return msgspec.convert(file, MediaFile).under(directory)
        case {"float": str(number)} if len(cell) == 1:
            return NON_FINITE.get(number, cell)
    return cell


def _unwrapped(value: Any) -> Any:
    """Return the PIL image inside an SDK's image object, any other value unchanged."""
    inner = getattr(value, "image", None)
    return inner if hasattr(inner, "save") and hasattr(inner, "mode") else value

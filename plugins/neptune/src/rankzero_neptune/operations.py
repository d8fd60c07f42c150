"""What Neptune's client sends to the server: its operations, which it keeps to itself (neptune 1.14)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rankzero_neptune.points import Point


def assign(path: str, value: bool | int | float | str) -> Any:
    """Return the operation that sets a single value."""
    from neptune.internal import operation

    kinds = {bool: "AssignBool", int: "AssignInt", float: "AssignFloat", str: "AssignString"}
    return getattr(operation, kinds[type(value)])(path.split("/"), value)


def log_floats(path: str, points: Iterable[Point]) -> Any:
    """Return the operation that adds points to a series of floats."""
    from neptune.internal.operation import LogFloats

    return LogFloats(path.split("/"), _values(points))


def log_strings(path: str, points: Iterable[Point]) -> Any:
    """Return the operation that adds points to a series of texts."""
    from neptune.internal.operation import LogStrings

    return LogStrings(path.split("/"), _values(points))


def _values(points: Iterable[Point]) -> list[Any]:
    from neptune.internal.operation import LogSeriesValue

    # The client cuts milliseconds off where a float is a little less.
    return [LogSeriesValue(point.value, point.step, (point.time + 0.5) / 1000) for point in points]


def log_image(path: str, data: str, name: str, caption: str | None, step: float | None, time: int) -> Any:
    """Return the operation that adds a picture to a series.

    Args:
        path: of the series.
        data: a PNG file in base64.
        name: of the picture.
        caption: a text about it.
        step: its step.
        time: Unix time in milliseconds.
    """
    from neptune.internal.operation import ImageValue, LogImages, LogSeriesValue

    value = ImageValue(data=data, name=name, description=caption)
    return LogImages(path.split("/"), [LogSeriesValue(value, step, (time + 0.5) / 1000)])


def add_strings(path: str, values: Iterable[str]) -> Any:
    """Return the operation that adds to a set of texts."""
    from neptune.internal.operation import AddStrings

    return AddStrings(path.split("/"), set(values))


def upload(path: str, file: str, extension: str) -> Any:
    """Return the operation that uploads a file."""
    from neptune.internal.operation import UploadFile

    return UploadFile(path.split("/"), ext=extension, file_path=file)


def delete(path: str) -> Any:
    """Return the operation that deletes what is under a path."""
    from neptune.internal.operation import DeleteAttribute

    return DeleteAttribute(path.split("/"))

"""Read hyperparameters from files beside the metrics, without executing any code in them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from rankzero.errors import NotAFileError
from rankzero.events.trust import check_depth
from rankzero.files.writing import open_regular
from rankzero.importers.base import Report
from rankzero.values import to_jsonable

_LARGEST = 1 << 22  # bytes
_MOST_VALUES = 100_000  # aliases may make a small file large


def read_params(directory: Path, names: Iterable[str], report: Report) -> dict[str, Any]:
    """Return the values of the YAML and JSON files in ``directory`` that have one of these names, merged."""
    params: dict[str, Any] = {}
    for name in names:
        try:
            with open_regular(directory / name) as file:
                data = file.read(_LARGEST + 1)
            if len(data) > _LARGEST:
                raise ValueError(f"it is larger than {_LARGEST >> 20} MiB")
            read = _checked(json.loads(data) if name.endswith(".json") else _read_yaml(data))
            params.update(to_jsonable(_without_unknown(read, name, report)))
        except FileNotFoundError:
            continue
        except (OSError, NotAFileError) as error:
            report.leave_out(name, f"it cannot be read: {error}")
        except Exception as error:  # of a damaged file, PyYAML raises errors of many kinds
            report.leave_out(name, f"its parameters cannot be read: {' '.join(str(error).split())}")
    return params


def _read_yaml(data: bytes) -> Any:
    """Return the content of a YAML file, with `_Unknown` for objects of Python and other unknown tags."""
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # two possible classes
        pass

    Loader.add_multi_constructor("", lambda loader, tag, node: _Unknown(node.tag))
    return yaml.load(data, Loader)


class _Unknown(NamedTuple):
    """A value that is not loaded."""

    tag: str


def _checked(read: Any) -> dict[str, Any]:
    """Return the content of a file.

    Raises:
        ValueError: it is not a mapping, is nested too deeply, or has too many values.
    """
    level, count = [read], 0
    while level and count <= _MOST_VALUES:
        containers = [each for each in level if isinstance(each, dict | list)]
        level = [below for each in containers for below in (each.values() if isinstance(each, dict) else each)]
        count += len(level)
    if count > _MOST_VALUES:
        raise ValueError(f"it has more than {_MOST_VALUES:,} values")
    check_depth(read)
    if not isinstance(read, dict):
        raise ValueError("it is not a mapping")
    return read


def _without_unknown(values: Any, path: str, report: Report) -> Any:
    """Return nested values without those that are not loaded, and report them."""
    if isinstance(values, list):
        return [_without_unknown(each, path, report) for each in values if not _is_unknown(each, path, report)]
    if isinstance(values, dict):
        return {
            key: _without_unknown(each, f"{path}.{key}", report)
            for key, each in values.items()
            if not _is_unknown(each, f"{path}.{key}", report)
        }
    return values


def _is_unknown(value: Any, path: str, report: Report) -> bool:
    if not isinstance(value, _Unknown):
        return False
    report.leave_out(path, f"it is an object, {value.tag.removeprefix('tag:yaml.org,2002:')}")
    return True

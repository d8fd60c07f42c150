"""Export runs in the layout of neptune-exporter, whose files many tools load: ``data/PROJECT/RUN_part_0.parquet``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from rankzero.reader.exporting.arrow import point_tables
from rankzero.reader.exporting.base import ExportedRun, RunKey, RunReader
from rankzero.reader.exporting.parquet import write_tables
from rankzero.reader.exporting.tables import Folder
from rankzero.values import flatten, restore_non_finite

_MILLISECONDS = pa.timestamp("ms", tz="UTC")
_STEP = pa.decimal128(18, 6)
_LARGEST_STEP = 10**12 - 1
_SCHEMA = pa.schema(
    {
        "project_id": pa.string(),
        "run_id": pa.string(),
        "attribute_path": pa.string(),
        "attribute_type": pa.string(),
        "step": _STEP,
        "timestamp": _MILLISECONDS,
        "int_value": pa.int64(),
        "float_value": pa.float64(),
        "string_value": pa.string(),
        "bool_value": pa.bool_(),
        "datetime_value": _MILLISECONDS,
        "string_set_value": pa.list_(pa.string()),
        "file_value": pa.struct({"path": pa.string()}),
        "histogram_value": pa.struct(
            {"type": pa.string(), "edges": pa.list_(pa.float64()), "values": pa.list_(pa.float64())}
        ),
    }
)
_NOT_IN_FILE_NAMES = re.compile(r"[^\w-]")
_KINDS = {bool: "bool", int: "int", float: "float"}


class NeptuneParquet(Folder):
    """Writes metrics, parameters, tags, name, notes, start and status."""

    format = "neptune-parquet"

    def path_of(self, key: RunKey) -> Path:
        project, run = map(_file_name, key)
        return self.output / "data" / project / f"{run}_part_0.parquet"

    def write_run(self, run: RunReader, file: BinaryIO) -> ExportedRun:
        exported: list[ExportedRun] = []

        def tables() -> Iterator[pa.Table]:
            for points in point_tables(run.rows()):
                yield _with_all_columns(run.key, _series_columns(points), points.num_rows)
            exported.append(run.summary())
            rows = [*_about(exported[0]), *_params(run.params)]
            yield pa.Table.from_pylist([_row(run.key, *row) for row in rows], _SCHEMA)

        write_tables(file, _SCHEMA, tables())
        return exported[0]


def _file_name(text: str) -> str:
    """Return the file name that neptune-exporter uses for a project or run."""
    digest = blake2b(text.encode(), digest_size=8).hexdigest()
    return f"{_NOT_IN_FILE_NAMES.sub('_', text)}-{digest}"


def _series_columns(points: pa.Table) -> Mapping[str, Any]:
    step = points["step"]
    is_in_range = pc.less_equal(pc.abs(step), _LARGEST_STEP)
    step = pc.if_else(is_in_range, step, pa.scalar(None, pa.int64()))
    return {
        "attribute_path": points["metric"].cast(pa.string()),
        "attribute_type": pa.repeat("float_series", points.num_rows),
        "step": step.cast(pa.decimal128(19, 0)).cast(_STEP),
        "timestamp": pc.round(pc.multiply(points["time"], 1000.0)).cast(pa.int64()).cast(_MILLISECONDS),
        "float_value": points["value"],
    }


def _with_all_columns(key: RunKey, columns: Mapping[str, Any], count: int) -> pa.Table:
    project, run = key
    known = {"project_id": pa.repeat(project, count), "run_id": pa.repeat(run, count), **columns}
    return pa.table([known.get(each.name, pa.nulls(count, each.type)) for each in _SCHEMA], schema=_SCHEMA)


def _about(run: ExportedRun) -> Iterator[tuple[str, str, Any]]:
    yield "sys/id", "string", run.run
    yield "sys/name", "string", run.name
    yield "sys/creation_time", "datetime", round(run.started * 1000)
    yield "sys/failed", "bool", run.status not in ("success", "running")
    if run.notes:
        yield "sys/description", "string", run.notes
    if run.tags:
        yield "sys/tags", "string_set", run.tags
    if run.group:
        yield "sys/group_tags", "string_set", [run.group]
    if run.parent:
        yield "rankzero/parent", "string", run.parent


def _params(params: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    for name, value in flatten(restore_non_finite(params)):
        kind = _KINDS.get(type(value), "string")
        if kind == "int" and not -(2**63) <= value < 2**63:
            kind = "string"
        yield name, kind, str(value) if kind == "string" else value


def _row(key: RunKey, name: str, kind: str, value: Any) -> dict[str, Any]:
    project, run = key
    about = {"project_id": project, "run_id": run, "attribute_path": name, "attribute_type": kind}
    return {**dict.fromkeys(_SCHEMA.names), **about, f"{kind}_value": value}

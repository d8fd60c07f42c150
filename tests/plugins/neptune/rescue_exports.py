"""Write Parquet files as neptune-exporter does: its columns, one or more files for each run, and downloaded files."""

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA = pa.schema(
    [
        ("project_id", pa.string()),
        ("run_id", pa.string()),
        ("attribute_path", pa.string()),
        ("attribute_type", pa.string()),
        ("step", pa.decimal128(18, 6)),
        ("timestamp", pa.timestamp("ms", tz="UTC")),
        ("int_value", pa.int64()),
        ("float_value", pa.float64()),
        ("string_value", pa.string()),
        ("bool_value", pa.bool_()),
        ("datetime_value", pa.timestamp("ms", tz="UTC")),
        ("string_set_value", pa.list_(pa.string())),
        ("file_value", pa.struct([("path", pa.string())])),
        (
            "histogram_value",
            pa.struct([("type", pa.string()), ("edges", pa.list_(pa.float64())), ("values", pa.list_(pa.float64()))]),
        ),
    ]
)
_COLUMN = {
    "float_series": "float_value", "string_series": "string_value", "histogram_series": "histogram_value",
    "file_series": "file_value", "file_set": "file_value", "artifact": "file_value",
}  # fmt: skip


def row(
    name: str, kind: str, value: Any, step: float | None = None, time: float | None = None,
    run: str = "DIG-1", project: str = "team/digits",
) -> dict[str, Any]:  # fmt: skip
    """One row: an attribute, or a point of a series at ``time``, Unix time in seconds."""
    return {
        **dict.fromkeys(SCHEMA.names),
        "project_id": project,
        "run_id": run,
        "attribute_path": name,
        "attribute_type": kind,
        "step": None if step is None else Decimal(str(step)).quantize(Decimal("1.000000")),
        "timestamp": None if time is None else datetime.fromtimestamp(time, UTC),
        _COLUMN.get(kind, f"{kind}_value"): value,
    }


def export(path: Path, rows: Iterable[dict[str, Any]], row_group_size: int | None = None) -> Path:
    """Write rows to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), SCHEMA), path, compression="snappy", row_group_size=row_group_size)
    return path

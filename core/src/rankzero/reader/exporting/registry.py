"""Make an exporter by the name of its format."""

from __future__ import annotations

from pathlib import Path

from rankzero.errors import ConfigError, PluginNotInstalledError
from rankzero.messages import did_you_mean
from rankzero.plugins.offered import offered_classes, only_class
from rankzero.plugins.registry import get_plugins, known_loggers
from rankzero.reader.exporting.base import Exporter
from rankzero.reader.exporting.database import DuckDBExporter
from rankzero.reader.exporting.parquet import ParquetTables
from rankzero.reader.exporting.tables import Dataset, Tables
from rankzero.reader.exporting.text import CsvTables, JsonLines

TABLES: dict[str, Tables] = {"csv": CsvTables(), "jsonl": JsonLines(), "parquet": ParquetTables()}
"""The formats with a file for each run."""


def make_exporter(name: str, output: Path) -> Exporter | None:
    """Make the exporter of a format; None for a logger that writes only files. Load the hook modules before.

    Raises:
        ConfigError: there is no such format.
        DuplicatePluginError: several plugins provide it.
        PluginNotInstalledError: it is in a plugin that is not installed.
    """
    if name in TABLES:
        return Dataset(output, name, TABLES[name])
    if name == "duckdb":
        return DuckDBExporter(output)
    offered = offered_classes("rankzero_exporters")
    if name in offered:
        exporter: Exporter = only_class(f"the format {name!r}", offered[name])(output)
        return exporter
    _check_logger(name, [*TABLES, "duckdb", *offered])
    return None


def _check_logger(name: str, formats: list[str]) -> None:
    """Raise unless ``name`` is an installed logger that writes only files."""
    plugins, known = get_plugins(), known_loggers()
    loggers = [each.name for each in plugins.available().values() if each.kind == "logger"]
    owner = name if name in known else name.partition("-")[0]
    if owner in known and owner not in loggers:
        raise PluginNotInstalledError(f"The format {name!r} is not installed. Run: {known[owner]}")
    if name not in loggers:
        raise ConfigError(f"There is no format {name!r}.{did_you_mean(name, formats)} Formats: {', '.join(formats)}.")
    if not plugins.load_logger(name).writes_only_files:
        raise ConfigError(f"The logger {name!r} writes more than files. Deliver with: rankzero sync RUN --to {name}")

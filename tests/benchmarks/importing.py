"""Import a source, for the benchmarks of importers."""

import tempfile
from pathlib import Path

from rankzero.importers.base import Importer
from rankzero.importers.writing import import_run


def import_all(importer: Importer, source: str) -> int:
    """Import the runs of a source; return the number of values."""
    with tempfile.TemporaryDirectory() as runs:
        return sum(import_run(found, Path(runs), "bench", known={}).values for found in importer.find([source]))

"""Import runs of Neptune's clients and exporter, and offer the format of the latter to ``rankzero export``.

This module is imported whenever a run starts: it imports little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import rankzero

if TYPE_CHECKING:
    from rankzero.importers.base import Importer
    from rankzero.reader.exporting.base import Exporter


@rankzero.hookimpl
def rankzero_importers() -> dict[str, type[Importer]]:
    """Return the importer of what Neptune's clients left on disk."""
    from rankzero_neptune.importing.importer import NeptuneImporter

    return {"neptune": NeptuneImporter}


@rankzero.hookimpl
def rankzero_exporters() -> dict[str, type[Exporter]]:
    """Return the exporter to the layout of neptune-exporter."""
    from rankzero_neptune.exporting import NeptuneParquet

    return {"neptune-parquet": NeptuneParquet}

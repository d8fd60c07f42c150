"""Import runs of Neptune's clients and of neptune-exporter, and export runs in the format of neptune-exporter.

Every run imports this module, so it imports little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import rankzero

if TYPE_CHECKING:
    from rankzero.importers.base import Importer
    from rankzero.reader.exporting.base import Exporter


@rankzero.hookimpl
def rankzero_importers() -> dict[str, type[Importer]]:
    """Return the importer of the runs that Neptune's clients and exporter left on disk."""
    from rankzero_neptune.importing.importer import NeptuneImporter

    return {"neptune": NeptuneImporter}


@rankzero.hookimpl
def rankzero_exporters() -> dict[str, type[Exporter]]:
    """Return the exporter to the layout of neptune-exporter."""
    from rankzero_neptune.importing.exporting import NeptuneParquet

    return {"neptune-parquet": NeptuneParquet}

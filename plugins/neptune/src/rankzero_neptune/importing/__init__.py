"""Import runs of Neptune's clients and exporter; this module is imported whenever a run starts: it imports little."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rankzero

if TYPE_CHECKING:
    from rankzero.importers.base import Importer


@rankzero.hookimpl
def rankzero_importers() -> dict[str, type[Importer]]:
    """Return the importer of what Neptune's clients left on disk."""
    from rankzero_neptune.importing.importer import NeptuneImporter

    return {"neptune": NeptuneImporter}

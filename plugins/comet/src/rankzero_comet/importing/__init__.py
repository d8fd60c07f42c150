"""Import Comet's offline experiments; this module is imported whenever a run starts: it imports little."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rankzero

if TYPE_CHECKING:
    from rankzero.importers.base import Importer


@rankzero.hookimpl
def rankzero_importers() -> dict[str, type[Importer]]:
    """Return the importer of what Comet's client left on disk."""
    from rankzero_comet.importing.importer import CometImporter

    return {"comet": CometImporter}

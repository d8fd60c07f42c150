"""Import Comet's offline experiments. Every run imports this module, so it imports little."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rankzero

if TYPE_CHECKING:
    from rankzero.importers.base import Importer


@rankzero.hookimpl
def rankzero_importers() -> dict[str, type[Importer]]:
    """Return the importer of Comet's offline experiments."""
    from rankzero_comet.importing.importer import CometImporter

    return {"comet": CometImporter}

"""Import runs of W&B's client. Every run imports this module, so it imports little."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rankzero

if TYPE_CHECKING:
    from rankzero.importers.base import Importer


@rankzero.hookimpl
def rankzero_importers() -> dict[str, type[Importer]]:
    """Return the importer of the runs that W&B's client left on disk."""
    from rankzero_wandb.importing.importer import WandbImporter

    return {"wandb": WandbImporter}

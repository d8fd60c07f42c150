"""Import runs from TensorBoard's event files. Every run imports this module, so it imports little."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rankzero

if TYPE_CHECKING:
    from rankzero.importers.base import Importer


@rankzero.hookimpl
def rankzero_importers() -> dict[str, type[Importer]]:
    """Return the importer of event files."""
    from rankzero_tensorboard.importing.importer import TensorBoardImporter

    return {"tensorboard": TensorBoardImporter}

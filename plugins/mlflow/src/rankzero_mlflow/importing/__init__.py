"""Import runs of MLflow. Every run imports this module, so it imports little."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rankzero

if TYPE_CHECKING:
    from rankzero.importers.base import Importer


@rankzero.hookimpl
def rankzero_importers() -> dict[str, type[Importer]]:
    """Return the importer of MLflow's directories, databases and servers."""
    from rankzero_mlflow.importing.importer import MlflowImporter

    return {"mlflow": MlflowImporter}

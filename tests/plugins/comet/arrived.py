"""The stored data of a run as `Tracked`."""

import csv
import io
import json
from pathlib import Path

from rankzero.testing import Tracked

STATUSES = {"running": None, "finished": "success", "crashed": "failed"}


def tracked(server, key):
    """Return the `Tracked` of an experiment."""
    stored, found = server.experiment(key), Tracked()
    for metric in stored.metrics:
        found.add_metric(metric.name, metric.step, metric.value, metric.time / 1000)
    found.params = {name.replace("|", "/"): value for name, value in stored.params.items()}
    found.tags = stored.tags
    found.status = STATUSES[stored.state]
    for asset in stored.assets:
        if asset.artifact_version_id is None:
            add_asset(found, asset)
    for artifact in server.store.artifacts.by_id.values():
        for version in artifact.versions:
            if version.experiment_key == key and version.state == "CLOSED":
                add_version(found, artifact, version)
    return found


def add_asset(found, asset):
    name = Path(asset.name)
    if asset.type == "image":
        kind = "figure" if name.stem.startswith("figure") else "image"
        found.add_item(kind, str(name.with_suffix("")), asset.step, asset.content, caption=caption(asset))
    elif asset.type in ("audio", "video"):
        found.add_item(asset.type, str(name.with_suffix("")), asset.step, asset.content, caption=caption(asset))
    elif asset.type == "text-sample":
        found.add_item("text", asset.metadata["key"], asset.step, (["value"], [[asset.content.decode()]]))
    elif asset.type == "histogram3d":
        found.add_item("histogram", name.stem, asset.step, json.dumps(asset.metadata["counts"]).encode())
    elif asset.name == "graph.json":
        found.add_item("graph", "graph", None, asset.content)
    elif name.suffix == ".csv" and asset.step is not None:
        found.add_item("table", str(name.with_suffix("")), asset.step, table(asset))
    else:
        found.add_item("artifact", asset.name.removesuffix(".npy"), asset.step, asset.content)


def add_version(found, artifact, version):
    details = json.loads(version.metadata or "{}")
    for name, content in version.files.items():
        if artifact.type == "model":
            found.add_item(
                "checkpoint", name, details["step"], content, aliases=version.aliases, score=details["score"]
            )
        else:
            found.add_item("artifact", artifact.name, None, content, aliases=version.aliases)


def caption(asset):
    return (asset.metadata or {}).get("caption")


def table(asset):
    """Return (columns, rows) of an asset that is a table."""
    columns, *rows = csv.reader(io.StringIO(asset.content.decode(), newline=""))
    return columns, rows

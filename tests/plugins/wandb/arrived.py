"""The stored data of a run as `Tracked`."""

import io
import json

import numpy as np

from rankzero.testing import Tracked

STEP = "trainer/global_step"
STATUSES = {None: None, 0: "success", 255: "aborted"}
KINDS = {
    "image-file": "image",
    "audio-file": "audio",
    "video-file": "video",
    "table-file": "table",
    "object3D-file": "pointcloud",
}
SHOWN_AS_FIGURE = ("image-file", "plotly-file", "html-file")
LISTS = {"audio": "audio", "videos": "videos", "html": "html", "object3D": "objects"}
OTHER_TYPES = ("run_table", "wandb-history", "code")
"""The types of artifacts that belong to other data."""


def arrived(run, server, texts=frozenset(), figures=frozenset()):
    """Return the `Tracked` of a run, without media and artifacts whose files are missing.

    Args:
        run: the `StoredRun`.
        server: its `WandbServer`.
        texts: the keys of tables that are texts.
        figures: the keys of images, pages and plots that are figures.
    """
    tracked = Tracked(tags=list(run.tags), status=STATUSES.get(run.exit_code, "failed"))
    tracked.params = {key: value for key, value in run.config.items() if not key.startswith("_")}
    for name in run.metrics.keys() - {STEP, "*"}:
        tracked.add_item("define_metric", name)
    for row in run.history:
        for key, value in sorted(row.items()):  # the client does not keep the order
            if not key.startswith("_") and key != STEP:
                add_value(tracked, run, key, value, row, texts, figures)
    for value in run.summary.values():
        if type_of(value) == "graph-file" and value["path"] in run.files:
            tracked.add_item("graph", "graph", None, run.files[value["path"]])
    with server.store.lock:
        collections = list(server.store.artifacts.collections.values())
    for version in [version for collection in collections for version in collection.versions]:
        if version.run == run.path and version.type not in OTHER_TYPES and version.files:
            add_artifact(tracked, version)
    return tracked


def add_value(tracked, run, key, value, row, texts, figures):
    """Add the value of a key in a row, unless it is W&B's own."""
    step = row.get(STEP)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        tracked.add_metric(key, step, value, row["_timestamp"])
    elif type_of(value) == "histogram":
        tracked.add_item("histogram", key, step, (value["values"], value["bins"]))
    for file in files_of(value):
        kind = "figure" if key in figures and file["_type"] in SHOWN_AS_FIGURE else KINDS.get(file["_type"])
        if kind and file["path"] in run.files:
            content = run.files[file["path"]]
            if kind == "table":
                table = json.loads(content)
                kind, content = "text" if key in texts else kind, (table["columns"], table["data"])
            elif kind == "pointcloud":
                content = as_npy(json.loads(content))
            tracked.add_item(kind, key, step, content, caption=file.get("caption"))


def as_npy(points):
    buffer = io.BytesIO()
    np.save(buffer, np.array(points, np.float32))
    return buffer.getvalue()


def files_of(value):
    """Return the type, path and caption of each file of a value."""
    kind = type_of(value)
    if kind == "images/separated":
        captions = value.get("captions") or [None] * len(value["filenames"])
        pairs = zip(value["filenames"], captions, strict=True)
        return [{"_type": "image-file", "path": path, "caption": caption} for path, caption in pairs]
    if kind in LISTS:
        return value[LISTS[kind]]
    if isinstance(value, list):
        return [each for each in value if type_of(each) and "path" in each]
    return [value] if kind and "path" in value else []


def type_of(value):
    return value.get("_type") if isinstance(value, dict) else None


def add_artifact(tracked, version):
    """Add a version of an artifact: a checkpoint if it is a model."""
    content = next(iter(version.files.values()))
    aliases = [alias for alias in version.aliases if alias != "latest"]
    if version.type == "model":
        metadata = version.metadata
        name = metadata.get("original_filename", version.name)
        tracked.add_item(
            "checkpoint", name, metadata.get("step"), content, aliases=aliases, score=metadata.get("score")
        )
    else:
        tracked.add_item("artifact", version.name, None, content, aliases=aliases)

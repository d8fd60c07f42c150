"""Convert media, tables, model graphs and files to objects of W&B."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rankzero.events.structs import Artifact, Checkpoint
from rankzero.media.encoders import Histogram, encode_image, import_pillow, is_picture
from rankzero.media.record import Media
from rankzero.media.store import MediaFile
from rankzero.values import NON_FINITE, to_jsonable, to_number

CHECKPOINT = "model.ckpt"
"""The name of a checkpoint's file in its artifact."""

_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff")
_SOUNDS = (".wav", ".mp3", ".flac", ".ogg", ".m4a")
_VIDEOS = (".mp4", ".webm")
_PAGES = (".html", ".htm")
_CONTAINERS = ("Sequential", "ModuleList", "ModuleDict")
_UNUSABLE = re.compile(r"[^\w.-]+")
_LONGEST_NAME = 128
_NOT_LIGHTNINGS = ("dirpath", "every_n_epochs")  # fields of a ModelCheckpoint that Lightning's logger leaves out


def _is_native(value: Any) -> bool:
    """Return whether a value is an object of W&B already."""
    return type(value).__module__.partition(".")[0] == "wandb"


# Media with files


def with_options(media: Media) -> list[tuple[Any, dict[str, Any]]]:
    """Return each item with its options.

    Raises:
        TypeError: the items are not a list.
        ValueError: an option is a list with too few or too many entries.
    """
    items, given = media.items, {"caption": media.captions, **media.encoding, **media.extra}
    if media.kind in ("figure", "pointcloud"):  # may be a single item; captions are in the file records
        items = media.files()
        given = {"caption": [file.caption for file in items]} if media.kind == "pointcloud" else {}
    if media.kind in ("audio", "video") and hasattr(items, "shape"):
        items = [items]
    if not isinstance(items, list | tuple):
        raise TypeError(f"the items must be a list, as in [image], not {type(items).__name__}")
    given = {name: value for name, value in given.items() if value is not None}
    for name, value in given.items():
        if isinstance(value, list | tuple) and len(value) != len(items):
            raise ValueError(f"{name!r} has {len(value)} entries for {len(items)} items; give one for each")
    options = [
        {name: value[index] if isinstance(value, list | tuple) else value for name, value in given.items()}
        for index in range(len(items))
    ]
    return list(zip(items, options, strict=True))


def media_object(media: Media, item: Any, options: dict[str, Any]) -> Any:
    """Return W&B's object of one item.

    Raises:
        OSError: a file is missing, or has another format.
        ValueError: the item is invalid.
    """
    import wandb

    if _is_native(item):
        return item
    caption = item.caption if isinstance(item, MediaFile) else None
    options = {"caption": caption, **options} if caption else options
    match media.kind:
        case "image":
            return _image(item, options)
        case "audio":
            return wandb.Audio(_file_of(media, item, options.pop("sample_rate", None)), **options)
        case "video":
            return wandb.Video(_file_of(media, item, options.pop("fps", None)), **options)
        case "pointcloud":
            import numpy as np

            return wandb.Object3D(np.load(item.path), caption=options.get("caption"))
    return _page(item.path) if Path(item.path).suffix in _PAGES else wandb.Image(item.path)


def _file_of(media: Media, item: Any, rate: Any) -> str | os.PathLike[str]:
    """Return the path of a sound or video; arrays are encoded here, because W&B's client would need moviepy."""
    if isinstance(item, str | os.PathLike):
        return os.fspath(item)
    encoding = dict.fromkeys(media.encoding, rate)
    return replace(media, items=[item], captions=None, encoding=encoding).files()[0].path


def _image(item: Any, options: dict[str, Any]) -> Any:
    import wandb

    for kind in ("masks", "boxes"):
        if options.get(kind):
            options[kind] = {name: _with_labels(each) for name, each in options[kind].items()}
    return wandb.Image(_picture(item), **options)


def _picture(item: Any) -> Any:
    """Return a path, or an array, tensor or figure as a picture; W&B's client would make arrays of 0..1 black."""
    if not hasattr(item, "shape") and not hasattr(item, "savefig"):
        return item.path if isinstance(item, MediaFile) else item
    try:
        return import_pillow().open(io.BytesIO(encode_image(item)[0]))
    except ValueError:  # W&B's client also accepts dimensions of size 1
        return item


def _with_labels(given: Any) -> Any:
    """Return a mask or boxes with arrays and class numbers; a journal has lists and texts."""
    if not isinstance(given, Mapping):
        return given
    changes: dict[str, Any] = {}
    if isinstance(given.get("mask_data"), list):
        import numpy as np

        changes["mask_data"] = np.asarray(given["mask_data"])
    if labels := given.get("class_labels"):
        changes["class_labels"] = {int(number): name for number, name in labels.items()}
    return {**given, **changes}


def _page(path: str) -> Any:
    """Return a ``wandb.Html`` of an unchanged page."""
    import wandb

    return wandb.Html(Path(path), inject=False)


def split_over_keys(key: str, objects: Any) -> dict[str, Any]:
    """Return W&B's objects by key, with more keys if there are more objects than W&B shows for one."""
    most = getattr(objects[0], "MAX_ITEMS", None) if isinstance(objects, list) else None
    if most is None:
        return {key: objects}
    firsts = range(0, len(objects), most)
    return {f"{key} ({first + 1} on)" if first else key: objects[first : first + most] for first in firsts}


# Tables, histograms, models


def table(columns: Sequence[Any], rows: Sequence[Sequence[Any]]) -> Any:
    """Return a ``wandb.Table`` with all rows, and with typed columns if possible."""
    import wandb

    cells = [[_cell(each) for each in row] for row in rows]
    wandb.Table.MAX_ARTIFACT_ROWS = max(wandb.Table.MAX_ARTIFACT_ROWS, len(cells))  # or it drops rows
    try:
        return wandb.Table(columns=list(columns), data=cells)
    except TypeError:
        return wandb.Table(columns=list(columns), data=cells, allow_mixed_types=True)


def _cell(value: Any) -> Any:
    import wandb

    if _is_native(value):
        return value
    if not isinstance(value, MediaFile):
        return wandb.Image(_picture(value)) if is_picture(value) else _plain(value)
    suffix = Path(value.path).suffix.lower()
    kinds: Any = ((_PICTURES, wandb.Image), (_SOUNDS, wandb.Audio), (_VIDEOS, wandb.Video), (_PAGES, _page))
    kind = next((kind for suffixes, kind in kinds if suffix in suffixes), None)
    return value.name or Path(value.path).name if kind is None else kind(value.path)


def _plain(value: Any) -> Any:
    """Return a cell as plain data; NaN stays a number."""
    plain = to_jsonable(value)
    return to_number(value) if isinstance(plain, str) and not isinstance(value, str) and plain in NON_FINITE else plain


def histogram(counted: Histogram) -> Any:
    """Return a ``wandb.Histogram``; neighbouring bins are merged if there are more than W&B accepts."""
    import wandb

    counts, edges = list(counted.counts), list(counted.edges)
    width = -(-len(counts) // wandb.Histogram.MAX_LENGTH)
    starts = range(0, len(counts), width)
    counts = [sum(counts[start : start + width]) for start in starts]
    return wandb.Histogram(np_histogram=(counts, [*(edges[start] for start in starts), edges[-1]]))


def graph(file: MediaFile) -> Any:
    """Return a ``wandb.Graph`` of a model's modules, without containers."""
    import wandb

    shown = wandb.Graph(format="torch")
    for module in json.loads(Path(file.path).read_bytes()).get("modules", []):
        name, kind = module["name"], module["type"]
        if module["parameters"] or (name and kind not in _CONTAINERS):
            shown.add_node(id=name, name=name, class_name=kind, num_parameters=[module["parameters"]])
    return shown


# Artifacts


def file_artifact(artifact: Artifact, *, is_immutable: bool) -> Any:
    """Return W&B's artifact of a file or folder.

    W&B's client need not copy an immutable file, which is a snapshot named after its content; in the artifact it gets
    the artifact's name.
    """
    name, suffix = artifact.name, Path(artifact.path).suffix
    metadata = {"name": name, **artifact.metadata} if usable_name(name) != name else artifact.metadata
    file_name = Path(artifact.path).name
    if is_immutable:
        file_name = name if name.endswith(suffix) else name + suffix
    if os.path.isdir(artifact.path):
        file_name = ""
    return _artifact(artifact.path, file_name, name, artifact.kind or "file", metadata, is_immutable=is_immutable)


def checkpoint_artifact(checkpoint: Checkpoint, name: str, *, is_immutable: bool) -> Any:
    """Return W&B's artifact of a checkpoint, a file or folder, with the name ``model.ckpt``."""
    metadata = {"score": checkpoint.score, "original_filename": Path(checkpoint.path).name}
    metadata |= _nested(checkpoint.metadata) | ({} if checkpoint.step is None else {"step": checkpoint.step})
    return _artifact(checkpoint.path, CHECKPOINT, name, "model", metadata, is_immutable=is_immutable)


def _artifact(path: str, file_name: str, name: str, kind: str, metadata: dict[str, Any], *, is_immutable: bool) -> Any:
    import wandb

    artifact = wandb.Artifact(usable_name(name), kind, metadata=metadata)
    add = artifact.add_dir if os.path.isdir(path) else artifact.add_file
    add(path, name=file_name or None, skip_cache=is_immutable, policy="immutable" if is_immutable else "mutable")
    return artifact


def usable_name(name: str) -> str:
    """Return a name that W&B accepts: other characters than letters, digits, ``-``, ``_`` and ``.`` become ``-``."""
    return _UNUSABLE.sub("-", name)[:_LONGEST_NAME]


def _nested(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata in the form of Lightning's logger, which nests those of a ModelCheckpoint."""
    if "save_top_k" not in metadata:
        return dict(metadata)
    kept = {name: value for name, value in metadata.items() if name not in _NOT_LIGHTNINGS}
    if "every_n_train_steps" in kept:
        kept["_every_n_train_steps"] = kept.pop("every_n_train_steps")
    return {"ModelCheckpoint": kept}

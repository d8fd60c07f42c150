"""What people log → the types of W&B."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rankzero.media.encoders import Histogram, encode_image, import_pillow
from rankzero.media.store import MediaFile
from rankzero.values import NON_FINITE, to_jsonable, to_number

Make = Callable[..., Any]
"""Makes W&B's object of one item and its options."""

_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff")
_SOUNDS = (".wav", ".mp3", ".flac", ".ogg", ".m4a")
_VIDEOS = (".mp4", ".webm")
_PAGES = (".html", ".htm")
_CONTAINERS = ("Sequential", "ModuleList", "ModuleDict")


def is_native(value: Any) -> bool:
    """Return whether a value is an object of W&B already."""
    return type(value).__module__.partition(".")[0] == "wandb"


def options_of(items: Any, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the options of each item.

    Raises:
        TypeError: the items are no list.
        ValueError: an option is a list that has not one entry for each of them.
    """
    if not isinstance(items, list | tuple):
        raise TypeError(f"what is logged must be a list, as in [image], not {type(items).__name__}")
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        if isinstance(value, list | tuple) and len(value) != len(items):
            raise ValueError(f"{name!r} has {len(value)} entries for {len(items)} items; give one for each")
    return [
        {name: value[index] if isinstance(value, list | tuple) else value for name, value in given.items()}
        for index in range(len(items))
    ]


def one_of(value: Any) -> Any:
    """Return the first of a list, or the value itself."""
    return value[0] if isinstance(value, Sequence) and value else value


def image(item: Any, **options: Any) -> Any:
    """Return a ``wandb.Image``."""
    import wandb

    if is_native(item):
        return item
    for kind, read in (("masks", _mask), ("boxes", _boxes)):
        if options.get(kind):
            options[kind] = {name: read(each) for name, each in options[kind].items()}
    return wandb.Image(_picture(item), **_with_caption(item, options))


def _picture(item: Any) -> Any:
    """Return a path, or arrays, tensors and figures as a picture; W&B's client makes arrays of 0..1 black."""
    if not hasattr(item, "shape") and not hasattr(item, "savefig"):
        return _path_or(item)
    try:
        return import_pillow().open(io.BytesIO(encode_image(item)[0]))
    except ValueError:  # W&B's client drops dimensions of one
        return item


def _mask(mask: Any) -> Any:
    """Return a mask whose data are an array, also where they were written down as a list."""
    if isinstance(mask, Mapping) and isinstance(mask.get("mask_data"), list):
        import numpy as np

        return {**mask, "mask_data": np.asarray(mask["mask_data"]), **_classes(mask)}
    return mask


def _boxes(boxes: Any) -> Any:
    """Return boxes with numbers for classes, also where a journal has texts for them."""
    return {**boxes, **_classes(boxes)} if isinstance(boxes, Mapping) else boxes


def _classes(mask: Mapping[str, Any]) -> dict[str, Any]:
    labels = mask.get("class_labels")
    return {"class_labels": {int(number): name for number, name in labels.items()}} if labels else {}


def in_portions(key: str, made: Any) -> dict[str, Any]:
    """Return W&B's objects by key, with further keys where W&B would leave out pictures."""
    most = getattr(made[0], "MAX_ITEMS", None) if isinstance(made, list) else None
    if most is None:
        return {key: made}
    firsts = range(0, len(made), most)
    return {f"{key} ({first + 1} on)" if first else key: made[first : first + most] for first in firsts}


def audio(item: Any, **options: Any) -> Any:
    """Return a ``wandb.Audio``."""
    import wandb

    return item if is_native(item) else wandb.Audio(_path_or(item), **_with_caption(item, options))


def video(item: Any, **options: Any) -> Any:
    """Return a ``wandb.Video``."""
    import wandb

    if is_native(item):
        return item
    if isinstance(item, str | Path | MediaFile):
        options.pop("fps", None)  # a file has its own
    return wandb.Video(_path_or(item), **_with_caption(item, options))


def figure(item: Any) -> Any:
    """Return a ``wandb.Image`` of a picture, a ``wandb.Html`` of a page."""
    import wandb

    return _page(item.path) if Path(item.path).suffix in _PAGES else wandb.Image(item.path)


def _page(path: str) -> Any:
    """Return a ``wandb.Html`` of a page as it is."""
    import wandb

    return wandb.Html(Path(path), inject=False)


def cell(value: Any) -> Any:
    """Return what a cell of a ``wandb.Table`` may hold."""
    import wandb

    if is_native(value):
        return value
    if not isinstance(value, MediaFile):
        is_picture = hasattr(value, "savefig") or (hasattr(value, "save") and hasattr(value, "mode"))
        return wandb.Image(_picture(value)) if is_picture else _plain(value)
    suffix = Path(value.path).suffix.lower()
    kinds: Any = ((_PICTURES, wandb.Image), (_SOUNDS, wandb.Audio), (_VIDEOS, wandb.Video), (_PAGES, _page))
    kind = next((kind for suffixes, kind in kinds if suffix in suffixes), None)
    return value.name or Path(value.path).name if kind is None else kind(value.path)


def _plain(value: Any) -> Any:
    """Return a cell as plain data; a NaN stays a number."""
    plain = to_jsonable(value)
    return to_number(value) if isinstance(plain, str) and not isinstance(value, str) and plain in NON_FINITE else plain


def table(columns: Sequence[Any], rows: Sequence[Sequence[Any]]) -> Any:
    """Return a ``wandb.Table`` with all the rows, whose columns have types if they can."""
    import wandb

    cells = [[cell(each) for each in row] for row in rows]
    wandb.Table.MAX_ARTIFACT_ROWS = max(wandb.Table.MAX_ARTIFACT_ROWS, len(cells))  # or the rest would be left out
    try:
        return wandb.Table(columns=list(columns), data=cells)
    except TypeError:
        return wandb.Table(columns=list(columns), data=cells, allow_mixed_types=True)


def histogram(counted: Histogram) -> Any:
    """Return a ``wandb.Histogram``, in which neighbouring bins are one where there are more than W&B takes."""
    import wandb

    counts, edges = list(counted.counts), list(counted.edges)
    width = -(-len(counts) // wandb.Histogram.MAX_LENGTH)
    if width > 1:
        starts = range(0, len(counts), width)
        counts, edges = (
            [sum(counts[start : start + width]) for start in starts],
            [*(edges[start] for start in starts), edges[-1]],
        )
    return wandb.Histogram(np_histogram=(counts, edges))


def graph(file: MediaFile) -> Any:
    """Return a ``wandb.Graph`` of a model's modules, without those that only hold others."""
    import wandb

    shown = wandb.Graph(format="torch")
    for module in json.loads(Path(file.path).read_bytes()).get("modules", []):
        if module["parameters"] or (module["name"] and module["type"] not in _CONTAINERS):
            shown.add_node(
                id=module["name"],
                name=module["name"],
                class_name=module["type"],
                num_parameters=[module["parameters"]],
            )
    return shown


def _path_or(item: Any) -> Any:
    return item.path if isinstance(item, MediaFile) else item


def _with_caption(item: Any, options: dict[str, Any]) -> dict[str, Any]:
    caption = item.caption if isinstance(item, MediaFile) else None
    return {"caption": caption, **options} if caption else options

"""Encode images, audio, video, figures, histograms and tables as files.

Pillow and numpy are imported only when needed.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from rankzero.errors import PluginNotInstalledError
from rankzero.values import has_cycle, is_sharded, to_dense, to_jsonable, to_text

Encoded = tuple[bytes, str]
"""The bytes of a file, and its suffix including the dot."""

_IMAGE_SIGNATURES = {b"\x89PNG\r\n\x1a\n": ".png", b"\xff\xd8\xff": ".jpg", b"GIF8": ".gif", b"RIFF": ".webp"}
_AUDIO_SIGNATURES = {b"fLaC": ".flac", b"OggS": ".ogg", b"ID3": ".mp3", b"\xff\xfb": ".mp3"}
_VIDEO_SIGNATURES = {b"GIF8": ".gif", b"\x1a\x45\xdf\xa3": ".webm", b"RIFF": ".avi"}
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16")
_CHANNELS = (1, 3, 4)
_LEAST_PIXELS = 8  # of a side of an array in a table; smaller ones are vectors and matrices
_LARGEST_FLOAT = sys.float_info.max
_MAX_UNIT_PIXEL = 2.0
"""Float images up to this value are in 0..1: after resampling they may overshoot. Others are in 0..255."""
_VIDEO_FRAMES_PER_SECOND = 4
_WRAPPERS = {
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "FullyShardedDataParallel": "module",
    "OptimizedModule": "_orig_mod",
    "_FabricModule": "module",
}
"""Wrapper classes of models → the attribute with the model."""
_WRAPPING_PACKAGES = ("lightning", "lightning_fabric", "torch")


class Histogram(msgspec.Struct, frozen=True, omit_defaults=True):
    """A histogram: n ``counts`` and n + 1 ascending ``edges``, as ``numpy.histogram`` returns them."""

    counts: list[int | float]
    edges: list[float]
    non_finite: int = 0
    """The number of values that are NaN or infinite, and not in a bin."""


def encode_image(image: Any) -> Encoded:
    """Encode an image as PNG; bytes of an image file are returned unchanged.

    Arrays and tensors have the shape (H, W), (H, W, C) or (C, H, W) with C in 1, 3, 4. Integers are in 0..255, floats
    in 0..1 (in 0..255 if a value is above 2), bools are black and white. Values outside are clipped; NaN is black.
    """
    if isinstance(image, bytes | bytearray):
        return bytes(image), _suffix(image, _IMAGE_SIGNATURES, ".bin")
    if hasattr(image, "savefig") or hasattr(image, "write_html"):
        return encode_figure(image)
    if not hasattr(image, "save"):
        array = to_array(image)
        if array.dtype.kind == "O":
            accepted = "a path, a PIL image, a figure, or an array or tensor of numbers"
            raise TypeError(f"an image is {accepted}, not {type(image).__name__}")
        image = import_pillow().fromarray(_pixels(array))
    elif image.mode == "F":
        image = import_pillow().fromarray(_pixels(_numpy().asarray(image)))
    elif image.mode not in _PNG_MODES:
        image = image.convert("RGBA" if "A" in image.getbands() or "a" in image.getbands() else "RGB")
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue(), ".png"


def is_picture(cell: Any) -> bool:
    """Return whether a table's cell is an image for `encode_image`: a PIL image, a figure, or an array that looks so.

    An array or tensor looks like an image if it has the shape of one, at least 8 × 8 pixels, and all values in 0..255.
    """
    if hasattr(cell, "savefig") or (hasattr(cell, "save") and hasattr(cell, "convert")):
        return True
    shape = tuple(getattr(cell, "shape", ())) if hasattr(cell, "dtype") else ()
    if len(shape) == 3:
        shape = shape[:2] if shape[-1] in _CHANNELS else shape[1:] if shape[0] in _CHANNELS else ()
    if len(shape) != 2 or min(shape) < _LEAST_PIXELS:
        return False
    try:
        array = to_array(cell)
    except (PluginNotInstalledError, TypeError, ValueError):
        return False
    return array.dtype.kind in "buif" and bool(array.min() >= 0 and array.max() <= 255)


def encode_figure(figure: Any) -> Encoded:
    """Encode a matplotlib figure (or an object with ``.figure``) as PNG, a plotly figure as HTML."""
    if hasattr(figure, "write_html"):
        text = io.StringIO()
        figure.write_html(text)
        return text.getvalue().encode(), ".html"
    owner: Any = figure if hasattr(figure, "savefig") else getattr(figure, "figure", None)
    if not hasattr(owner, "savefig"):
        raise TypeError(f"a figure must be from matplotlib or plotly, or a path, not {type(figure).__name__}")
    buffer = io.BytesIO()
    owner.savefig(buffer, format="png")
    return buffer.getvalue(), ".png"


def encode_audio(samples: Any, sample_rate: int | None = None) -> Encoded:
    """Encode audio samples as a 16-bit WAV file; bytes are returned unchanged.

    Args:
        samples: (T,), (T, channels) or (channels, T); floats are in -1..1, integers are 16-bit samples. Values outside
            are clipped; NaN is silence.
        sample_rate: in Hz, 44,100 by default.
    """
    if isinstance(samples, bytes | bytearray):
        return bytes(samples), _suffix(samples, _AUDIO_SIGNATURES, ".wav")
    import wave

    np = _numpy()
    array = to_array(samples)
    if array.ndim not in (1, 2):
        raise ValueError(f"audio has the shape (T,), (T, channels) or (channels, T), not {array.shape}")
    frames = array.reshape(-1, 1) if array.ndim == 1 else array.T if array.shape[0] < array.shape[1] else array
    if frames.dtype.kind not in "iu":
        frames = np.round(np.clip(np.nan_to_num(frames.astype(np.float64)), -1, 1) * 32767)
    frames = np.clip(frames, -32768, 32767)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(frames.shape[1])
        file.setsampwidth(2)
        file.setframerate(sample_rate or 44_100)
        file.writeframes(frames.astype("<i2").tobytes())
    return buffer.getvalue(), ".wav"


def encode_video(frames: Any, fps: int | None = None) -> Encoded:
    """Encode video frames as an animated GIF; bytes are returned unchanged.

    Args:
        frames: (T, H, W, C) or (T, C, H, W), with values as in `encode_image`.
        fps: frames per second, 4 by default.
    """
    if isinstance(frames, bytes | bytearray):
        return bytes(frames), _suffix(frames, _VIDEO_SIGNATURES, ".mp4")
    image = import_pillow()
    array = to_array(frames)
    if array.ndim != 4 or not len(array):
        raise ValueError(f"a video has the shape (T, H, W, C) or (T, C, H, W), not {array.shape}")
    white = _white_value(array)
    pictures = [image.fromarray(_pixels(frame, white)) for frame in array]
    buffer = io.BytesIO()
    milliseconds = round(1000 / (fps or _VIDEO_FRAMES_PER_SECOND))
    pictures[0].save(buffer, format="GIF", save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0)
    return buffer.getvalue(), ".gif"


def encode_pointcloud(points: Any) -> Encoded:
    """Encode points as .npy: (N, 3) with x, y, z, (N, 4) with a category as well, or (N, 6) with red, green, blue."""
    array = to_array(points)
    if array.ndim != 2 or array.shape[1] not in (3, 4, 6) or array.dtype.kind not in "biuf":
        raise ValueError(f"a point cloud is an array of the shape (N, 3), (N, 4) or (N, 6), not {array.shape}")
    return encode_raw(array)


ENCODERS: Mapping[str, Callable[..., Encoded]] = {
    "image": encode_image,
    "audio": encode_audio,
    "video": encode_video,
    "figure": encode_figure,
    "pointcloud": encode_pointcloud,
}
"""Kind of media → the function that encodes one item."""


def encode_raw(value: Any) -> Encoded:
    """Encode an array or tensor without loss: as .npy, or as JSON if numpy is not installed."""
    try:
        buffer = io.BytesIO()
        _numpy().save(buffer, to_array(value), allow_pickle=False)
    except PluginNotInstalledError:
        return msgspec.json.encode(to_jsonable(value)), ".json"
    return buffer.getvalue(), ".npy"


def histogram(values: Any, bins: int = 64) -> Histogram:
    """Count finite values of an array of any shape in ``bins`` equal bins from their minimum to maximum."""
    if isinstance(values, Histogram):
        return values
    np = _numpy()
    if isinstance(values, tuple) and len(values) == 2 and np.ndim(to_array(values[0])) == 1:
        counts, edges = map(to_array, values)  # a result of numpy.histogram
        edges = np.clip(edges.astype(np.float64), -_LARGEST_FLOAT, _LARGEST_FLOAT)  # JSON has no infinity
    else:
        array = to_array(values).astype(np.float64).ravel()
        finite = array[np.isfinite(array)]
        counts, edges = _count(finite, bins)
        return Histogram(counts.tolist(), edges.tolist(), array.size - finite.size)
    return Histogram(counts.tolist(), edges.tolist())


def _count(finite: Any, bins: int) -> tuple[Any, Any]:
    np = _numpy()
    with np.errstate(all="ignore"):
        is_narrow_enough = not finite.size or np.isfinite(finite.max() - finite.min())
    if is_narrow_enough:
        try:
            return np.histogram(finite, bins=bins)  # type: ignore[no-any-return]
        except ValueError:  # large and equal values have no floats between them
            pass
    least, largest = finite.min(), finite.max()
    return np.array([finite.size]), np.array([least, max(largest, np.nextafter(least, _LARGEST_FLOAT))])


def as_table(
    columns: Sequence[str] | None, data: Iterable[Iterable[Any]] | None, dataframe: Any
) -> tuple[list[str], list[list[Any]]]:
    """Return (columns, rows) of a table given as columns and data, or as a pandas, polars or Arrow dataframe.

    A dataframe may stand in any of the three places. A row may be a dictionary by column. Short rows end with None.
    """
    for each in (dataframe, columns, data):
        if hasattr(each, "columns") or hasattr(each, "column_names"):
            return _dataframe_rows(each)
    rows = [] if data is None else list(data)
    if columns is None and any(isinstance(row, Mapping) for row in rows):
        columns = list(dict.fromkeys(name for row in rows for name in row))
    names = [] if columns is None else list(columns)
    cells = [[row.get(name) for name in names] if isinstance(row, Mapping) else list(row) for row in rows]
    width = max([len(names), *map(len, cells)])
    return (
        [*map(to_text, names), *(f"column {index}" for index in range(len(names), width))],
        [[*row, *[None] * (width - len(row))] for row in cells],
    )


def _dataframe_rows(frame: Any) -> tuple[list[str], list[list[Any]]]:
    if hasattr(frame, "iter_rows"):  # polars
        return list(frame.columns), [list(row) for row in frame.iter_rows()]
    if hasattr(frame, "to_pylist"):  # Arrow
        names = list(frame.column_names)
        return names, [[row[name] for name in names] for row in frame.to_pylist()]
    return [to_text(name) for name in frame.columns], [list(row) for row in frame.itertuples(index=False, name=None)]


def unwrap_model(model: Any) -> Any:
    """Return the model inside the wrappers of Fabric, ``torch.compile`` and data parallelism."""
    for each in type(model).__mro__:
        if each.__qualname__ in _WRAPPERS and each.__module__.partition(".")[0] in _WRAPPING_PACKAGES:
            return unwrap_model(getattr(model, _WRAPPERS[each.__qualname__]))
    return model


def encode_model(model: Any) -> Encoded:
    """Encode a model without its code as JSON: its printed form, modules and parameter counts."""
    model = unwrap_model(model)
    named_modules = getattr(model, "named_modules", None)
    modules = [
        {
            "name": name,
            "type": type(module).__qualname__,
            "parameters": sum(p.numel() for p in module.parameters(recurse=False)),
        }
        for name, module in (named_modules() if named_modules else ())
    ]
    kept = {"text": to_text(model), "modules": modules, "parameters": sum(m["parameters"] for m in modules)}
    return msgspec.json.encode(to_jsonable(kept)), ".json"


def _suffix(data: bytes | bytearray, signatures: Mapping[bytes, str], default: str) -> str:
    return next((suffix for start, suffix in signatures.items() if data.startswith(start)), default)


def to_array(value: Any) -> Any:
    """Convert an array, a tensor on any device or nested lists to a numpy array."""
    np = _numpy()
    if is_sharded(value):
        raise TypeError("this DTensor is sharded over ranks; log its full_tensor(), which all ranks must call")
    if has_cycle(value):
        raise ValueError("lists that contain each other are not an array")
    if hasattr(value, "detach"):
        # A numpy view would keep the memory of a parameter, which FSDP frees and allocates again.
        value = value.detach().clone() if value.requires_grad and value.is_leaf else value.detach()
        value = to_dense(value.cpu())
        # numpy has no bfloat16 and no float8; float32 has all of their values.
        is_narrow = str(value.dtype).startswith(("torch.bfloat16", "torch.float8"))
        value = value.float().numpy() if is_narrow else value.numpy()
    return np.asarray(value)


def _white_value(array: Any) -> float:
    """Return the value of a white pixel: 1, or 255 for integers and for floats above `_MAX_UNIT_PIXEL`."""
    np = _numpy()
    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array[:0]
    return 1.0 if array.dtype.kind == "f" and (not finite.size or finite.max() <= _MAX_UNIT_PIXEL) else 255.0


def _pixels(array: Any, white: float | None = None) -> Any:
    """Convert an image array to uint8 of the shape (H, W), (H, W, 3) or (H, W, 4)."""
    np = _numpy()
    if array.ndim == 3 and array.shape[0] in _CHANNELS and array.shape[-1] not in _CHANNELS:
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3):
        raise ValueError(f"an image has the shape (H, W), (H, W, C) or (C, H, W), not {array.shape}")
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype == bool:
        return np.where(array, np.uint8(255), np.uint8(0))
    white = white or _white_value(array)
    values = np.clip(np.nan_to_num(array.astype(np.float64)), 0, white)
    return np.round(values * (255 / white)).astype(np.uint8)


_importing = threading.RLock()
# A child that is forked while another thread imports would wait forever for that import.
os.register_at_fork(before=_importing.acquire, after_in_parent=_importing.release, after_in_child=_importing.release)


def import_fork_safe(name: str) -> Any:
    """Import a module while this process cannot fork."""
    with _importing:
        return importlib.import_module(name)


def _numpy() -> Any:
    try:
        return import_fork_safe("numpy")
    except ModuleNotFoundError as error:
        raise PluginNotInstalledError("arrays need numpy: pip install 'rankzero[media]'") from error


def import_pillow() -> Any:
    """Import ``PIL.Image``; if it is missing, the error says how to install it."""
    try:
        with _importing:
            from PIL import Image

            Image.preinit()  # otherwise opening or saving the first image imports the formats
    except ModuleNotFoundError as error:
        raise PluginNotInstalledError("images need Pillow: pip install 'rankzero[media]'") from error
    return Image

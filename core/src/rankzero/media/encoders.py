"""Pictures, sounds, figures, tables and models → the bytes of a file.

Pillow and numpy are imported only when needed.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from rankzero.errors import PluginNotInstalledError
from rankzero.values import has_cycle, is_sharded, to_dense, to_jsonable, to_text

Encoded = tuple[bytes, str]
"""The bytes of a file, and its suffix with the dot."""

_IMAGE_SIGNATURES = {b"\x89PNG\r\n\x1a\n": ".png", b"\xff\xd8\xff": ".jpg", b"GIF8": ".gif", b"RIFF": ".webp"}
_AUDIO_SIGNATURES = {b"fLaC": ".flac", b"OggS": ".ogg", b"ID3": ".mp3", b"\xff\xfb": ".mp3"}
_VIDEO_SIGNATURES = {b"GIF8": ".gif", b"\x1a\x45\xdf\xa3": ".webm", b"RIFF": ".avi"}
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16")
_LARGEST_FLOAT = sys.float_info.max
_LARGEST_OF_UNIT = 2.0
"""A picture of 0..1 may overshoot after resampling or denoising; one of 0..255 with nothing above this is black."""
_VIDEO_FRAMES_PER_SECOND = 4
_WRAPPERS = {
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "FullyShardedDataParallel": "module",
    "OptimizedModule": "_orig_mod",
    "_FabricModule": "module",
}
"""Classes of wrappers around a model → the attribute that holds it."""
_WRAPPING_PACKAGES = ("lightning", "lightning_fabric", "torch")


class Histogram(msgspec.Struct, frozen=True, omit_defaults=True):
    """Counts per bin: ``counts`` has n numbers, ``edges`` n + 1, ascending (as ``numpy.histogram`` returns them)."""

    counts: list[int | float]
    edges: list[float]
    non_finite: int = 0
    """How many values are NaN or infinite, and in no bin."""


def encode_image(image: Any) -> Encoded:
    """Encode a picture as PNG; bytes that are an image file already are kept as they are.

    Arrays and tensors: (H, W), (H, W, C) or (C, H, W) with C in 1, 3, 4. Integers are taken as 0..255, floats
    as 0..1 (as 0..255 if one is above 2), bools as black and white; what lies outside is clipped, NaN is black.
    """
    if isinstance(image, bytes | bytearray):
        return bytes(image), _suffix(image, _IMAGE_SIGNATURES, ".bin")
    if hasattr(image, "savefig") or hasattr(image, "write_html"):
        return encode_figure(image)
    if not hasattr(image, "save"):
        image = import_pillow().fromarray(_pixels(to_array(image)))
    elif image.mode == "F":
        image = import_pillow().fromarray(_pixels(_numpy().asarray(image)))
    elif image.mode not in _PNG_MODES:
        image = image.convert("RGBA" if "A" in image.getbands() or "a" in image.getbands() else "RGB")
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue(), ".png"


def encode_figure(figure: Any) -> Encoded:
    """Encode a matplotlib figure (or an object with ``.figure``) as PNG, a plotly figure as HTML."""
    if hasattr(figure, "write_html"):
        text = io.StringIO()
        figure.write_html(text)
        return text.getvalue().encode(), ".html"
    figure = figure if hasattr(figure, "savefig") else figure.figure
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue(), ".png"


def encode_audio(samples: Any, sample_rate: int | None = None) -> Encoded:
    """Encode samples as a 16-bit WAV file; bytes are kept as they are.

    Args:
        samples: (T,) or (T, channels) or (channels, T); floats are taken as -1..1, integers as 16-bit samples; what
            lies outside is clipped, NaN is silence.
        sample_rate: in Hz; 44,100 if not given.
    """
    if isinstance(samples, bytes | bytearray):
        return bytes(samples), _suffix(samples, _AUDIO_SIGNATURES, ".wav")
    import wave

    np = _numpy()
    array = to_array(samples)
    if array.ndim not in (1, 2):
        raise ValueError(f"a sound has the shape (T,), (T, channels) or (channels, T), not {array.shape}")
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
    """Encode frames as an animated GIF; bytes are kept as they are.

    Args:
        frames: (T, H, W, C) or (T, C, H, W), with values as in `encode_image`.
        fps: frames per second, 4 if not given.
    """
    if isinstance(frames, bytes | bytearray):
        return bytes(frames), _suffix(frames, _VIDEO_SIGNATURES, ".mp4")
    image = import_pillow()
    array = to_array(frames)
    if array.ndim != 4 or not len(array):
        raise ValueError(f"a video has the shape (T, H, W, C) or (T, C, H, W), not {array.shape}")
    brightest = _brightest(array)
    pictures = [image.fromarray(_pixels(frame, brightest)) for frame in array]
    buffer = io.BytesIO()
    milliseconds = round(1000 / (fps or _VIDEO_FRAMES_PER_SECOND))
    pictures[0].save(buffer, format="GIF", save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0)
    return buffer.getvalue(), ".gif"


def encode_raw(value: Any) -> Encoded:
    """Encode an array or tensor exactly: as .npy, or as JSON where numpy is not installed."""
    try:
        buffer = io.BytesIO()
        _numpy().save(buffer, to_array(value), allow_pickle=False)
    except PluginNotInstalledError:
        return msgspec.json.encode(to_jsonable(value)), ".json"
    return buffer.getvalue(), ".npy"


def histogram(values: Any, bins: int = 64) -> Histogram:
    """Count ``values``, of any shape, in ``bins`` equal bins from their minimum to maximum; only finite ones count."""
    if isinstance(values, Histogram):
        return values
    np = _numpy()
    if isinstance(values, tuple) and len(values) == 2 and np.ndim(to_array(values[0])) == 1:
        counts, edges = map(to_array, values)  # what numpy.histogram returned
        edges = np.clip(edges.astype(np.float64), -_LARGEST_FLOAT, _LARGEST_FLOAT)  # JSON has no infinity
    else:
        array = to_array(values).astype(np.float64).ravel()
        counts, edges = _count(array[np.isfinite(array)], bins)
        return Histogram(counts.tolist(), edges.tolist(), array.size - int(counts.sum()))
    return Histogram(counts.tolist(), edges.tolist())


def _count(finite: Any, bins: int) -> tuple[Any, Any]:
    np = _numpy()
    with np.errstate(all="ignore"):
        is_narrow_enough = not finite.size or np.isfinite(finite.max() - finite.min())
    if is_narrow_enough:
        try:
            return np.histogram(finite, bins=bins)  # type: ignore[no-any-return]
        except ValueError:  # large and equal: there are no floats between them
            pass
    least, largest = finite.min(), finite.max()
    return np.array([finite.size]), np.array([least, max(largest, np.nextafter(least, _LARGEST_FLOAT))])


def as_table(
    columns: Sequence[str] | None, data: Iterable[Iterable[Any]] | None, dataframe: Any
) -> tuple[list[str], list[list[Any]]]:
    """Return (columns, rows) of the three ways to give a table; a dataframe may be pandas', polars' or Arrow's."""
    if dataframe is not None:
        return _dataframe_rows(dataframe)
    rows = [list(row) for row in ([] if data is None else data)]
    width = max((len(row) for row in rows), default=0)
    return [to_text(name) for name in columns] if columns is not None else [f"column {i}" for i in range(width)], rows


def _dataframe_rows(frame: Any) -> tuple[list[str], list[list[Any]]]:
    if hasattr(frame, "iter_rows"):  # polars
        return list(frame.columns), [list(row) for row in frame.iter_rows()]
    if hasattr(frame, "to_pylist"):  # Arrow
        names = list(frame.column_names)
        return names, [[row[name] for name in names] for row in frame.to_pylist()]
    return [to_text(name) for name in frame.columns], [list(row) for row in frame.itertuples(index=False, name=None)]


def unwrap_model(model: Any) -> Any:
    """Return the module that Fabric, ``torch.compile`` or data parallelism has wrapped; any other as it is."""
    for each in type(model).__mro__:
        if each.__qualname__ in _WRAPPERS and each.__module__.partition(".")[0] in _WRAPPING_PACKAGES:
            return unwrap_model(getattr(model, _WRAPPERS[each.__qualname__]))
    return model


def describe_model(model: Any) -> Mapping[str, Any]:
    """Return what can be kept of a model without its code: its printed form, modules and parameter counts."""
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
    return {"text": to_text(model), "modules": modules, "parameters": sum(m["parameters"] for m in modules)}


def _suffix(data: bytes | bytearray, signatures: Mapping[bytes, str], default: str) -> str:
    return next((suffix for start, suffix in signatures.items() if data.startswith(start)), default)


def to_array(value: Any) -> Any:
    """Return a numpy array of an array, a tensor on any device, or nested lists."""
    np = _numpy()
    if is_sharded(value):
        raise TypeError("it is a DTensor, spread over the ranks; log its full_tensor(), which all ranks must call")
    if has_cycle(value):
        raise ValueError("these lists hold each other and are no array")
    if hasattr(value, "detach"):
        # numpy would pin the memory of a parameter, which FSDP gives back and takes again.
        value = value.detach().clone() if value.requires_grad and value.is_leaf else value.detach()
        value = to_dense(value.cpu())
        # numpy has no bfloat16 and no float8; float32 holds each of their values.
        is_narrow = str(value.dtype).startswith(("torch.bfloat16", "torch.float8"))
        value = value.float().numpy() if is_narrow else value.numpy()
    return np.asarray(value)


def _brightest(array: Any) -> float:
    """Return what the largest value is to be taken for: 1, or 255 where the values are plainly not 0..1."""
    np = _numpy()
    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array[:0]
    return 1.0 if array.dtype.kind == "f" and (not finite.size or finite.max() <= _LARGEST_OF_UNIT) else 255.0


def _pixels(array: Any, brightest: float | None = None) -> Any:
    """Return (H, W), (H, W, 3) or (H, W, 4) of uint8."""
    np = _numpy()
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[-1] not in (1, 3, 4):
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3):
        raise ValueError(f"an image has the shape (H, W), (H, W, C) or (C, H, W), not {array.shape}")
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype == bool:
        return np.where(array, np.uint8(255), np.uint8(0))
    brightest = brightest or _brightest(array)
    values = np.clip(np.nan_to_num(array.astype(np.float64)), 0, brightest)
    return np.round(values * (255 / brightest)).astype(np.uint8)


_importing = threading.RLock()
# A process that forks while another thread imports would leave its child waiting for that import for ever.
os.register_at_fork(before=_importing.acquire, after_in_parent=_importing.release, after_in_child=_importing.release)


def import_fork_safe(name: str) -> Any:
    """Import a module while no process forks."""
    with _importing:
        return importlib.import_module(name)


def _numpy() -> Any:
    try:
        return import_fork_safe("numpy")
    except ModuleNotFoundError as error:
        raise PluginNotInstalledError("arrays need numpy: pip install 'rankzero[media]'") from error


def import_pillow() -> Any:
    """Import ``PIL.Image``, or say how to install it."""
    try:
        with _importing:
            from PIL import Image

            Image.preinit()  # it imports its formats only when it opens or saves the first picture
    except ModuleNotFoundError as error:
        raise PluginNotInstalledError("images need Pillow: pip install 'rankzero[media]'") from error
    return Image

"""Pictures and sounds, as they were logged → what TensorBoard shows and plays."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rankzero.media.encoders import Encoded, encode_audio, encode_image, import_pillow

_SHOWN_FORMATS = ("PNG", "JPEG", "GIF", "BMP")


class Picture(NamedTuple):
    """A picture that TensorBoard shows."""

    content: bytes
    width: int
    height: int
    caption: str | None


def picture(item: Any, caption: str | None = None, encode: Callable[[Any], Encoded] = encode_image) -> Picture | None:
    """Return a picture, PNG, JPEG, GIF and BMP byte by byte as they were and others as PNG; None if it is none.

    Args:
        item: a path, or what ``encode`` takes.
        caption: a text beside it.
        encode: makes a file of what is none.
    """
    content = _content(item, encode)
    try:
        with import_pillow().open(io.BytesIO(content)) as image:
            shown = content if image.format in _SHOWN_FORMATS else encode_image(image)[0]
            width, height = image.size
            return Picture(shown, width, height, caption)
    except OSError:  # Pillow knows no such format
        return None


def sound(item: Any, sample_rate: int | None = None) -> bytes:
    """Return a sound, byte by byte as it was if it was a file, otherwise as WAV.

    Args:
        item: a path, or samples.
        sample_rate: of samples, in Hz.
    """
    return _content(item, lambda samples: encode_audio(samples, sample_rate))


def _content(item: Any, encode: Callable[[Any], Encoded]) -> bytes:
    return Path(item).read_bytes() if isinstance(item, str | os.PathLike) else encode(item)[0]

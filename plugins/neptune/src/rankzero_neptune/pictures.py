"""Pictures as Neptune's series take them: PNG files in base64."""

from __future__ import annotations

import base64
import io
from pathlib import Path

_PNG = b"\x89PNG\r\n\x1a\n"
_LARGEST = 32 << 20  # bytes, of which Neptune's client takes no more


def png_in_base64(file: str) -> str | None:
    """Return a picture with the pixels that it has, None if it is too large or no picture that Pillow can read.

    Args:
        file: its path.

    Raises:
        OSError: the file cannot be read.
    """
    data = Path(file).read_bytes()
    png = data if data.startswith(_PNG) else _converted(data)
    return None if png is None or len(png) > _LARGEST else base64.b64encode(png).decode()


def _converted(data: bytes) -> bytes | None:
    from PIL import Image

    buffer = io.BytesIO()
    try:
        with Image.open(io.BytesIO(data)) as image:
            if getattr(image, "n_frames", 1) > 1:
                return None
            image.save(buffer, "PNG")
    except Exception:  # Pillow raises anything at a broken file, and PNG has not every mode
        return None
    return buffer.getvalue()

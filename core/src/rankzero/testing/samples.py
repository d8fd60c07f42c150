"""A sample of each kind of data to log, made with the standard library only."""

from __future__ import annotations

import io
import struct
import wave
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rankzero.loggers.base import Logger
from rankzero.media.encoders import Histogram
from rankzero.media.store import MediaFile

STEP = 3
COLUMNS = ["x", "label"]
ROWS = [[1, "one"], [2, "zwei, „drei“"]]
GIF = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x00\x00\x00\x00\x00"
    b",\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)


class Sample(NamedTuple):
    """A call of a verb with data to keep."""

    kind: str
    log: Callable[[Any], Any]
    key: str
    step: int | None = STEP
    content: Any = None
    """The expected content, if the tracker's content can be read."""
    score: float | None = None
    aliases: tuple[str, ...] = ()


class FigureSample:
    """Replaces a matplotlib figure for `Logger.log_figure`."""

    def savefig(self, file: Any, **kwargs: Any) -> None:
        """Write a PNG."""
        file.write(png())


def samples(directory: Path) -> list[Sample]:
    """Return a sample of each kind; those that are files are written to ``directory``."""
    directory.mkdir(exist_ok=True)

    def file(name: str, data: bytes) -> str:
        path = directory / name
        path.write_bytes(data)
        return str(path)

    image, audio, video = file("image.png", png()), file("audio.wav", wav()), file("video.gif", GIF)
    points = file("points.npy", npy())
    data, checkpoint = file("data.txt", b"data"), file("model.ckpt", b"weights")
    graph = file("graph.json", b'{"text":"Model(2)","modules":[],"parameters":2}')
    table = (COLUMNS, ROWS)
    return [
        Sample("image", lambda log: log.log_image("val/image", [image], STEP, caption=["a"]), "val/image", STEP, png()),
        Sample("audio", lambda log: log.log_audio("val/audio", [audio], STEP), "val/audio", STEP, wav()),
        Sample("video", lambda log: log.log_video("val/video", [video], STEP), "val/video", STEP, GIF),
        Sample("figure", lambda log: log.log_figure("val/figure", FigureSample(), STEP), "val/figure", STEP, png()),
        Sample("pointcloud", lambda log: log.log_pointcloud("scan", [points], STEP), "scan", STEP, npy()),
        Sample("table", lambda log: log.log_table("val/table", COLUMNS, ROWS, step=STEP), "val/table", STEP, table),
        Sample("text", lambda log: log.log_text("val/text", COLUMNS, iter(ROWS), step=STEP), "val/text", STEP, table),
        Sample("histogram", lambda log: log.log_histogram("w", Histogram([1, 2], [0.0, 1.0, 2.0]), STEP), "w"),
        Sample("graph", lambda log: log.log_graph(MediaFile(graph)), "graph", None),
        Sample("artifact", lambda log: _log_artifact(log, data), "numbers", None, b"data", aliases=("v1",)),
        Sample(
            "checkpoint", lambda log: _log_checkpoint(log, checkpoint), "model.ckpt", STEP, b"weights", 0.5, ("best",)
        ),
        Sample("tags", lambda log: log.log_tags(["green"]), "green", None),
        Sample("define_metric", lambda log: log.define_metric("loss", summary="min", goal="minimize"), "loss", None),
    ]


KINDS = [
    "image", "audio", "video", "figure", "pointcloud", "table", "text", "histogram", "graph", "artifact", "checkpoint",
    "tags", "define_metric",
]  # fmt: skip


ARRAYS = ["image", "audio", "video", "pointcloud"]


def array_sample(kind: str) -> Sample:
    """Return media as arrays, for a logger that is used directly. Needs numpy."""
    import numpy as np

    picture: Any = np.zeros((2, 2, 3), np.uint8)
    sound = np.sin(np.arange(80) / 8)
    key = f"array of {kind}"
    logs: dict[str, Callable[[Logger], Any]] = {
        "image": lambda log: log.log_image(key, [picture], STEP),
        "audio": lambda log: log.log_audio(key, [sound], STEP, sample_rate=8000),
        "video": lambda log: log.log_video(key, [np.stack([picture, picture + 255])], STEP, fps=2),
        "pointcloud": lambda log: log.log_pointcloud(key, [np.eye(3)], STEP),
    }
    return Sample(kind, logs[kind], key)


def _log_artifact(logger: Logger, path: str) -> Any:
    return logger.log_artifact(path, name="numbers", type="dataset", aliases=["v1"], metadata={"rows": 3})


def _log_checkpoint(logger: Logger, path: str) -> Any:
    return logger.log_checkpoint(path, score=0.5, step=STEP, aliases=["best"], metadata={"monitor": "loss"})


def png() -> bytes:
    """Return an image of two by two pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\x00\x00\xff" * 2)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def npy() -> bytes:
    """Return a point cloud of two points, in the format of `numpy.save`."""
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }".ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + struct.pack("<6f", *range(6))


def wav() -> bytes:
    """Return a hundredth of a second of silence."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(160))
    return buffer.getvalue()

"""Runs to look at: with every kind of data, with many metrics, and with hostile names."""

import math
from pathlib import Path

from recorded import write

from rankzero.events.run_info import RunInfo
from rankzero.events.structs import (
    Artifact,
    Audio,
    Console,
    DefineMetric,
    Figure,
    Finish,
    Histogram,
    Image,
    Metrics,
    Params,
    Rewind,
    Start,
    Table,
    Text,
    Video,
)
from rankzero.media.encoders import Histogram as Counts
from rankzero.media.store import MediaStore
from rankzero.reader.index.run_index import index_run
from rankzero.reader.page.payload import indexed_run

BEGAN = 1_790_000_000.0
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8cfc0000003010100c9fe92ef"
    "0000000049454e44ae426082"
)
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
BACKWARDS = "\u202egnp.exe\u202c אבג"


def write_run(directory, *events, name="amber-otter-1", number=0, tags=(), params=None, loggers=None):
    """Write a run and return its directory."""
    run_dir = Path(directory) / f"{number:032x}"
    info = RunInfo(f"{number:032x}", name, "project", str(run_dir), tags, started=BEGAN + 60 * number)
    write(run_dir, Start(info.started, info, loggers or {}), Params(info.started, params or {}), *events)
    return run_dir


def read_for_page(run_dir):
    """Read a run as `rankzero page` does."""
    return indexed_run(index_run(run_dir))


def rows(count, names=("train/loss", "val/loss"), began=BEGAN, offset=0.0):
    """Return events of metrics; the second name is NaN for a while, and the first one has a spike."""
    for step in range(count):
        values = {name: math.exp(-step / count) + offset + 0.01 * place for place, name in enumerate(names)}
        if step == count // 2:
            values[names[0]] = 7.5
        if len(names) > 1 and count // 4 <= step < count // 3:
            values[names[1]] = math.nan
        yield Metrics(began + step, step, values, epoch=step // 10)


def write_wav():
    """Return a second of silence, as a WAV file."""
    size = 8000
    head = b"RIFF" + (36 + size).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
    return (
        head
        + bytes.fromhex("0100 0100 401f0000 401f0000 0100 0800")
        + b"data"
        + size.to_bytes(4, "little")
        + b"\x80" * size
    )


def write_full_run(directory, number=0, name="everything", text="plain"):
    """Write a run with every kind of data, and with ``text`` in all of its names and texts."""
    run_dir = Path(directory) / f"{number:032x}"
    run_dir.mkdir(parents=True)
    store = MediaStore(run_dir)
    began = BEGAN + 60 * number

    def put(data, suffix, caption=None):
        return store.put_bytes((data, suffix), caption=caption)

    events = [*rows(100, ("train/loss", "val/loss", f"train/{text}"), began)]
    for step in (0, 50, 99):
        time = began + step
        svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="{9 + step}" height="9"><script>alert(3)</script></svg>'
        events += [
            Image(
                time, text, [put(PIXEL + bytes([step]), ".png", f"{text} at {step}"), put(svg.encode(), ".svg")], step
            ),
            Figure(time, f"figure {text}", put(b"<script>alert(4)</script>", ".html"), step),
            Audio(time, f"sound {text}", [put(write_wav() + bytes([step]), ".wav")], step),
            Video(time, f"film {text}", [put(b"GIF89a" + bytes([step]), ".gif")], step),
            Table(time, f"table {text}", store.table(["name", text], [[text, step], ["b", math.nan]]), step),
            Text(time, f"text {text}", ["text"], [[f"{text} {step}"]], step),
            Histogram(time, f"weights/{text}", Counts([1, 2 + step, 3], [0.0, 0.5, 0.75, 1.0], 2), step),
            Console(time, f"step {step} {text}\nsecond line", "stderr" if step else "stdout"),
        ]
    events += [
        DefineMetric(began, "val/*", goal="minimize"),
        Artifact(began + 99, put(b"weights", ".bin").path, text, kind="model"),
        Finish(began + 100, "success"),
    ]
    params = {"lr": 0.1, "optimizer": {"name": text}, "same": 1}
    return write_run(directory, *events, name=name, number=number, tags=("demo", text), params=params)


def write_rewound_run(directory, number=0):
    """Write a run that was resumed from an older step, and then crashed."""
    began = BEGAN + 60 * number
    info = RunInfo(f"{number:032x}", "went-back", "project", "", started=began)
    first = [Metrics(began + step, step, {"train/loss": 100.0 - step}) for step in range(80)]
    later = [Metrics(began + 200 + step, step, {"train/loss": 50.0 - step}) for step in range(41, 60)]
    events = [*first, Start(began + 150, info, resumed=True), Rewind(began + 151, 40), *later]
    return write_run(directory, *events, Finish(began + 300, "failed"), name="went-back", number=number)

"""Compare a run with the same run imported from a tracker, event by event."""

import math
import struct
from collections import Counter
from pathlib import Path

import numpy as np

from rankzero.events import structs
from rankzero.media.store import read_table
from rankzero.reader.run_data import read_run
from rankzero.values import flatten

YES, NO = "✓", "–"


class Journal:
    """The events of a run."""

    def __init__(self, run_dir):
        self.dir = Path(run_dir)
        self.run = read_run(run_dir)
        self.events = [structs.decode(line) for line in (self.dir / "journal.jsonl").read_bytes().splitlines()]

    def of(self, *kinds):
        """Return the events of some types."""
        return [event for event in self.events if isinstance(event, kinds)]

    def points(self, name):
        """Return (step, value, time, epoch, stage) of each point of a metric."""
        return [
            (event.step, event.numbers()[name], event.time, event.epoch, event.stage)
            for event in self.of(structs.Metrics)
            if name in event.values
        ]

    def content(self, event):
        """Return the content of an event, without its key, step and time."""
        match event:
            case structs.Table():
                return read_table(self.dir / event.file.path)
            case structs.Text():
                return event.columns, event.data
            case structs.Histogram():
                return event.values
            case structs.Figure() | structs.Graph():
                return [(self.dir / event.file.path).read_bytes()]
            case structs.Pointcloud():
                return [np.load(self.dir / file.path).tolist() for file in event.files]
            case structs.Files():
                return [(self.dir / file.path).read_bytes() for file in event.files]
            case structs.Artifact() | structs.Checkpoint():
                path = self.dir / event.path
                files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
                return [file.read_bytes() for file in files]
        raise TypeError(event)


KEPT = (structs.MediaEvent, structs.Artifact, structs.Checkpoint)


def differences(original, imported):
    """Return logged data → ✓, –, or its new form, for all data that a tracker may lose."""
    points = {
        "number": _values("loss"),
        "whole number above 2⁵³": _values("large"),
        "NaN": _values("nan"),
        "±infinity": _values("infinity"),
        "late or repeated step": _values("late"),
        "time of a value": _times,
        "epoch": _field(3, "epoch"),
        "stage": _field(4, "stage"),
        "name with odd characters": _values("50% [größe] a:b/精度"),
        "hyperparameter": _params,
        "tag": lambda a, b: _of_equal(set(a.run.tags), set(b.run.tags)),
        "name of the run": lambda a, b: _of_equal(a.run.info.name, b.run.info.name),
        "notes": lambda a, b: _of_equal(a.run.info.notes, b.run.info.notes),
        "group": lambda a, b: _of_equal(a.run.info.group, b.run.info.group),
        "status": lambda a, b: _of_equal(a.run.status, b.run.status),
        "image": _media(structs.Image),
        "caption": _captions,
        "audio": _media(structs.Audio),
        "video": _media(structs.Video),
        "point cloud": _media(structs.Pointcloud),
        "figure": _media(structs.Figure),
        "table": _media(structs.Table),
        "text": _media(structs.Text),
        "histogram": _media(structs.Histogram),
        "graph of a model": _media(structs.Graph),
        "artifact": _media(structs.Artifact),
        "its aliases and metadata": _details(structs.Artifact, "aliases", "metadata"),
        "checkpoint": _media(structs.Checkpoint),
        "its score, step and aliases": _details(structs.Checkpoint, "score", "step", "aliases"),
        "`define_metric`": lambda a, b: _of_equal(_definitions(a), _definitions(b)),
        "alert": lambda a, b: _of_equal(_alerts(a), _alerts(b)),
    }
    return {name: compare(original, imported) for name, compare in points.items()}


def _of_equal(first, second):
    return YES if first == second else NO


def _values(name):
    def compare(original, imported):
        logged, found = (
            Counter((step, _plain(value)) for step, value, *_ in journal.points(name))
            for journal in (original, imported)
        )
        if logged == found:
            return YES
        for word, change in (("float64", float), ("float32", _as_float32), ("NaN", lambda value: math.nan)):
            if Counter((step, _plain(change(value))) for step, value in logged.elements()) == found:
                return word
        return "text" if any(key.startswith(name) for key in imported.run.texts) else NO

    return compare


def _plain(value):
    return "NaN" if isinstance(value, float) and math.isnan(value) else value


def _as_float32(value):
    return struct.unpack("f", struct.pack("f", float(value)))[0]


def _times(original, imported):
    logged, found = (sorted(time for _, _, time, *_ in journal.points("loss")) for journal in (original, imported))
    if len(logged) != len(found):
        return NO
    furthest = max(abs(time - other) for time, other in zip(logged, found, strict=True))
    return YES if furthest < 1e-6 else "milliseconds" if furthest <= 1e-3 else NO


def _field(index, name):
    """Compare the epochs or stages of values; some trackers store them as metrics."""

    def compare(original, imported):
        logged, found = (
            Counter((point[0], point[index]) for point in journal.points("late")) for journal in (original, imported)
        )
        if logged == found:
            return YES
        as_metric = {(step, value) for step, value, *_ in imported.points(name)}
        return "a metric" if {pair for pair in logged if pair[1] is not None} <= as_metric else NO

    return compare


def _params(original, imported):
    logged, others = (dict(flatten(journal.run.params)) for journal in (original, imported))
    found = {name: others.get(name, others.get(f"hyperparams/{name}")) for name in logged}  # a tracker may have more
    if logged == found:
        return YES
    if any(str(logged[name]) != str(found[name]) for name in logged):
        return NO
    is_scalar = {name: not isinstance(value, list) for name, value in logged.items()}
    return "lists as text" if all(logged[name] == found[name] for name in logged if is_scalar[name]) else "text"


def _media(kind):
    def compare(original, imported):
        (event,) = original.of(kind)
        content = original.content(event)
        found = [(other, imported.content(other)) for other in imported.of(*KEPT)]
        same = [other for other, its in found if its == content and isinstance(other, kind)]
        if any(_key(other) == _key(event) and _step(other) == _step(event) for other in same):
            return YES
        if same:
            return ", ".join(_changes(event, same[0]))
        if alike := [its for other, its in found if isinstance(other, kind) and _key(other) == _key(event)]:
            return "cells as text" if _as_text(content) in map(_as_text, alike) else "changed"
        equal = [other for other, its in found if its == content]
        named = [other for other, _ in found if _key(event) in _key(other)]
        return _word(type((equal or named)[0])) if equal or named else NO

    return compare


def _changes(event, other):
    if _key(other) != _key(event):
        yield "another name"
    if _step(other) != _step(event):
        yield "no step"


def _as_text(content):
    """Return a table whose cells are texts; other content as it is."""
    return [[str(cell) for cell in row] for row in content[1]] if isinstance(content, tuple) else content


def _key(event):
    if isinstance(event, structs.Graph):
        return "graph"
    return event.key if isinstance(event, structs.MediaEvent) else getattr(event, "name", "checkpoint")


def _step(event):
    return getattr(event, "step", None)


def _word(kind):
    return {"Pointcloud": "point cloud"}.get(kind.__name__, kind.__name__.lower())


def _captions(original, imported):
    (event,) = original.of(structs.Image)
    captions = [file.caption for file in event.files]
    found = [[file.caption for file in other.files] for other in imported.of(structs.Image) if other.key == event.key]
    return YES if captions in found else NO


def _details(kind, *fields):
    def compare(original, imported):
        (event,) = original.of(kind)
        content = original.content(event)
        logged = {field: getattr(event, field) for field in fields}
        kept = [
            field
            for field, value in logged.items()
            if any(
                getattr(other, field, None) == value
                for other in imported.of(*KEPT)
                if imported.content(other) == content
            )
        ]
        return YES if len(kept) == len(fields) else " and ".join(kept) or NO

    return compare


def _definitions(journal):
    return {name: (each.step_metric, each.summary, each.goal) for name, each in journal.run.definitions.items()}


def _alerts(journal):
    return [(alert.title, alert.text, alert.level) for alert in journal.run.alerts]


def log_everything(run, samples):
    """Log data of every kind."""
    for step in range(20):
        run.log_metrics({"loss": 1 / (step + 3)}, step=step)
    run.log_metrics({"nan": math.nan, "large": 2**53 + 12345}, step=20)
    run.log_metrics({"infinity": math.inf}, step=20)
    run.log_metrics({"infinity": -math.inf}, step=21)
    for step, value in ((5, 0.5), (6, 0.25), (1, 0.125), (6, 0.75), (0, 2.0)):
        run.log_metrics({"late": value}, step=step, epoch=step // 3, stage="train")
    run.log_metrics({"50% [größe] a:b/精度": 0.5}, step=7)
    run.log_hyperparams({"lr": 0.1, "layers": 3, "bias": True, "name": "größe", "optimizer": {"betas": [0.9, 0.99]}})
    run.alert("high loss", "it grows", level="WARN")
    for sample in samples:
        if sample.kind != "video":
            sample.log(run)
    run.log_video("val/video", [_animation()], step=3)


def _animation():
    """Return a GIF of two pictures; the sample of a video has only one."""
    from PIL import Image

    first, second = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    first.save("animation.gif", save_all=True, append_images=[second], loop=0)
    return "animation.gif"

"""Import runs in tests, and read their data."""

import math
from pathlib import Path

import rankzero
from rankzero.importers.writing import import_run


def import_all(importer, *sources, runs="runs"):
    """Import runs; return the results."""
    return [import_run(found, Path(runs), "project") for found in importer.find([str(source) for source in sources])]


def import_one(importer, *sources):
    """Import one run; return it, and the data that was left out."""
    (imported,) = import_all(importer, *sources)
    return rankzero.read_run(imported.info.dir), imported.report.left_out


def points(run):
    """Return metric → [(step, value)]; NaN is "nan", which is equal to itself."""
    return {
        name: [
            (None if math.isnan(step) else int(step), "nan" if math.isnan(value) else value)
            for step, value in zip(series.step.tolist(), series.value.tolist(), strict=True)
        ]
        for name, series in run.metrics.items()
    }


def texts(run):
    """Return key → [(step, text)]."""
    return {name: [(each.step, each.data[0][0]) for each in rows] for name, rows in run.texts.items()}

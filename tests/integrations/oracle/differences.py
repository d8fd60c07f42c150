"""The deliberate differences between the recorder and Lightning, and the comparison of everything else.

1. The epoch is a field of each row and not a metric of its own. Lightning leaves it out of rows of which it knows the
   step (evaluation's step values) and of rows with a metric ``step``; the recorder's rows always have it.
2. A step value that is logged in some batches only is written once. Lightning repeats it in each row until the epoch
   ends (`by_lightning.Collector` leaves the repetitions out).
3. Training's epoch values are written when its batches are used up, so before an evaluation that follows. In Lightning
   the evaluation at the end of an epoch is within the training epoch. So the order of rows differs between stages, not
   within one; and of a name that both training and validation reduce over the epoch, the later one is read.
4. What is logged between the loops of an epoch has no stage, and a row of its own.
5. Sums are made in float64, and Python numbers stay what they are: compared to float32's precision.
6. A test forgets nothing: what training logged can be read after it, too.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict

import pytest
from integrations.oracle.training import Outcome, Point, Training

RELATIVE, ABSOLUTE = 3e-6, 1e-6


def assert_same(ours: Outcome, lightnings: Outcome, training: Training) -> None:
    """Compare every name, step, epoch and value that was written, and what could be read after each epoch."""
    found, expected = by_name(ours, training), by_name(lightnings, training)
    assert steps_of(found) == steps_of(expected)
    for name, points in expected.items():
        for our, theirs in zip(found[name], points, strict=True):
            assert is_same(our.value, theirs.value), (our, theirs)
            assert theirs.epoch in (None, our.epoch), (our, theirs)  # 1
    read = zip(ours.batch_metrics + ours.metrics, lightnings.batch_metrics + lightnings.metrics, strict=True)
    for our, theirs in read:
        assert our.keys() == theirs.keys()
        differing = {name for name in theirs if not is_same(our[name], theirs[name])}
        assert all(is_of_two_epochs(name, training) for name in differing), (differing, our, theirs)
    for name, value in lightnings.test_metrics.items():  # 6
        assert is_same(ours.test_metrics[name], value), name


def by_name(outcome: Outcome, training: Training) -> dict[tuple[str, str], list[Point]]:
    found = defaultdict(list)
    for point in outcome.points:
        is_between = is_logged("epoch", point.name, training)
        assert is_between or point.stage is not None
        found["between" if is_between else point.stage, point.name].append(point)  # 3, 4
    return dict(found)


def steps_of(series: dict[tuple[str, str], list[Point]]) -> dict[tuple[str, str], list[int]]:
    return {name: [point.step for point in points] for name, points in series.items()}


def is_of_two_epochs(name: str, training: Training) -> bool:  # 3
    return all(is_logged(place, name, training, on_epoch=True) for place in ("train", "validate"))


def is_logged(place: str, name: str, training: Training, *, on_epoch: bool = False) -> bool:
    """Return whether something logged in ``place`` is written or read as ``name``."""
    return any(
        each.place == place
        and (each.levels[1] or not on_epoch)
        and re.fullmatch(re.escape(each.name) + r"(/Binary\w+)?2?(_\d)?(_step|_epoch)?(/dataloader_idx_\d)?", name)
        for each in training.logged
    )


def is_same(one: float, other: float) -> bool:
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    return one == pytest.approx(other, rel=RELATIVE, abs=ABSOLUTE)

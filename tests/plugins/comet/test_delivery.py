"""Delivery of numbers: none is lost, changed or sampled, and each has its time, step and epoch."""

import math

import pytest
from plugins.comet.journals import deliver, journal_of_rows, points_in, points_logged

pytestmark = pytest.mark.usefixtures("here")


def test_more_points_than_comets_client_sends_of_a_metric(server, tmp_path):
    """More than 15,000 points, the limit above which Comet's client samples offline data."""
    deliver(run_dir := journal_of_rows(tmp_path, *({"loss": 1 / (step + 1)} for step in range(15_500))))
    arrived = points_in(server.experiment(run_dir.name))
    assert arrived == points_logged(run_dir)
    assert [(value, step, epoch) for _, value, step, epoch, _ in arrived] == [
        (1 / (step + 1), step, step // 10) for step in range(15_500)
    ]


def test_numbers_to_the_last_bit(server, tmp_path):
    row = {
        "nan": math.nan,
        "inf": math.inf,
        "-inf": -math.inf,
        "third": 1 / 3,
        "tiny": 5e-324,
        "huge": 1.7976931348623157e308,
        "minus zero": -0.0,
        "int": 2**53 + 1,
        "negative": -7,
    }
    deliver(run_dir := journal_of_rows(tmp_path, row))
    stored = {metric.name: metric for metric in server.experiment(run_dir.name).metrics}
    assert math.isnan(stored["nan"].value)
    assert [stored[name].sent for name in ("nan", "inf", "-inf")] == ["NaN", "Infinity", "-Infinity"]
    for name, value in row.items():
        if name != "nan":
            assert (stored[name].value, type(stored[name].value)) == (value, type(value))
    assert math.copysign(1, stored["minus zero"].value) == -1

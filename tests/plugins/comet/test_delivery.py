"""Delivery of numbers: none is lost, changed or sampled, and each has its time, step and epoch."""

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

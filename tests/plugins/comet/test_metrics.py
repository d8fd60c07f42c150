"""Delivery of metrics: each value with its step, epoch and time, in any order."""

import math

import numpy as np
import pytest
import torch

from rankzero.events.run_info import LogContext, MetricsRow

LONG = "x" * 150


def values(stored, name):
    """Return (step, epoch, value) of a metric."""
    return [(each.step, each.epoch, each.value) for each in stored.metrics if each.name == name]


def test_steps_in_any_order_epochs_and_times(attached, stored):
    rows = [
        MetricsRow({"loss": 0.5, "acc": 1}, 5, LogContext(1_700_000_000.25, epoch=2)),
        MetricsRow({"loss": 0.25}, 3, LogContext(1_700_000_001.5)),
        MetricsRow({"loss": 0.125}, 3, LogContext(1_700_000_002.0, epoch=0)),
        MetricsRow({"loss": 1.0}, None, LogContext(1_700_000_003.0)),
    ]
    attached.log_metrics_batch(rows)
    assert values(stored(), "loss") == [(5, 2, 0.5), (3, None, 0.25), (3, 0, 0.125), (None, None, 1.0)]
    assert values(stored(), "acc") == [(5, 2, 1)]
    times = [time for _, _, time in stored().series("loss")]
    assert times == [1_700_000_000_250, 1_700_000_001_500, 1_700_000_002_000, 1_700_000_003_000]


def test_names_that_are_too_long_stay_different(attached, stored):
    with pytest.warns(UserWarning, match="Comet accepts names of 1 to 100 characters") as warned:
        attached.log_metrics({LONG + "a": 1, LONG + "b": 2, "": 3}, step=0)
    assert len(warned) == 3
    attached.log_metrics({LONG + "a": 1, LONG + "b": 2, "": 3}, step=1)  # without a warning
    first, second, empty = [each.name for each in stored().metrics if each.step == 0]
    assert len({first, second}) == 2
    assert {len(first), len(second)} == {100}
    assert first.startswith("x" * 90)
    assert empty == "(no name)"
    assert [values(stored(), name) for name in (first, second)] == [
        [(0, None, 1), (1, None, 1)], [(0, None, 2), (1, None, 2)]
    ]  # fmt: skip


def test_a_short_name_is_the_same_in_every_process(run_info, make_logger, stored):
    for step in range(2):
        logger = make_logger()
        logger.attach(run_info)
        with pytest.warns(UserWarning, match="1 to 100 characters"):
            logger.log_metrics({LONG: step}, step=step)
        logger.close()
    assert len({each.name for each in stored().metrics}) == 1


def test_other_values_become_texts(attached, stored):
    attached.log_metrics({"phase": "warm-up", "array": np.arange(3), "loss": 1}, step=4)
    assert values(stored(), "loss") == [(4, None, 1)]
    texts = [(asset.metadata["key"], asset.content.decode()) for asset in stored().assets]
    assert texts == [("phase", "warm-up"), ("array", str(np.arange(3)))]
    assert {(asset.type, asset.step) for asset in stored().assets} == {("text-sample", 4)}


@pytest.mark.parametrize("epoch", [3, 3.0, torch.tensor(3.0), np.int64(3)])
def test_an_epoch_among_metrics_becomes_their_epoch(attached, stored, epoch):
    attached.log_metrics({"loss": 0.5, "epoch": epoch}, step=7)
    assert [(each.name, each.step, each.epoch) for each in stored().metrics] == [("loss", 7, 3)]


def test_an_invalid_epoch_is_a_metric(attached, stored):
    attached.log_metrics({"epoch": 1}, step=1)
    attached.log_metrics({"epoch": 2.5, "loss": 1}, step=2)
    attached.log_metrics({"epoch": math.nan, "loss": 1}, step=3)
    attached.log_metrics_batch([MetricsRow({"epoch": 7, "loss": 1}, 4, LogContext(1.0, epoch=3))])
    found = [(step, epoch, str(value)) for step, epoch, value in values(stored(), "epoch")]
    assert found == [(1, None, "1"), (2, None, "2.5"), (3, None, "nan"), (4, 3, "7")]
    assert values(stored(), "loss") == [(2, None, 1), (3, None, 1), (4, 3, 1)]


def test_a_prefix(make_logger, run_info, stored):
    logger = make_logger(prefix="exp1")
    logger.attach(run_info)
    logger.log_metrics({"loss": 0.5, "epoch": 2}, step=1)
    logger.log_metrics({"phase": "warm-up"}, step=1)
    assert [(each.name, each.epoch) for each in stored().metrics] == [("exp1_loss", 2)]
    assert [asset.metadata["key"] for asset in stored().assets] == ["exp1_phase"]


def test_empty_metrics_send_no_request(attached, server):
    attached.log_metrics({}, step=1)
    assert server.count("experiment/metric") == 0

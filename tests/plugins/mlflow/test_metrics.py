"""Metrics: each value with its step and time, a thousand in a request, and no other values."""

import math

import numpy as np
import pytest
import torch
from plugins.mlflow.tracked import Held, requests_counted

from rankzero.events.run_info import LogContext, MetricsRow
from rankzero.events.structs import DefineMetric, Finish
from rankzero.testing.journals import DyingCourier, JournalOf, KilledError

TIME = 1_700_000_000.123


def rows(count, per_row=1):
    return [
        MetricsRow({f"m{index}": step + index / 8 for index in range(per_row)}, step, LogContext(TIME + step, step))
        for step in range(count)
    ]


def test_thousand_values_a_request(on_server):
    with requests_counted("metrics") as sizes:
        on_server.log_metrics_batch(rows(250, per_row=9))
    assert sizes == [1000, 1000, 250]
    held = Held(on_server)
    for index in range(9):
        expected = [(step, step + index / 8, round((TIME + step) * 1000)) for step in range(250)]
        assert held.points(f"m{index}") == expected


def test_each_kind_of_number_is_exact(logger):
    values = [1.7976931348623157e308, -(2**60), True, np.float32(0.1), np.int64(7)]
    for step, value in enumerate(values):
        logger.log_metrics({"a": value}, step)
    assert [point[:2] for point in Held(logger).points("a")] == [
        (step, float(value)) for step, value in enumerate(values)
    ]


def test_nan_and_infinity(on_server):
    with pytest.warns(UserWarning, match="cannot store infinity: '.*' is NaN there") as said:
        on_server.log_metrics({"nan": math.nan, "up": math.inf, "down": -math.inf, "huge": -(10**400)}, step=0)
    on_server.log_metrics({"nan": 0.5, "up": math.inf, "down": 2.0}, step=1)
    assert [str(each.message).split("'")[1] for each in said] == ["up", "down", "huge"]
    held = Held(on_server)
    assert [repr(point[1]) for point in held.points("nan")] == ["nan", "0.5"]
    assert [repr(point[1]) for point in held.points("up")] == ["nan", "nan"]
    assert [repr(point[1]) for point in held.points("down")] == ["nan", "2.0"]
    assert [repr(point[1]) for point in held.points("huge")] == ["nan"]


def test_a_text_is_kept_as_a_file(logger):
    logger.log_metrics({"loss": 0.5, "phase": "warm-up", "confusion": torch.eye(2)}, step=4)
    with pytest.warns(UserWarning, match="'gone' was None"):
        logger.log_metrics({"gone": None}, step=5)
    held = Held(logger)
    assert list(held.metrics) == ["loss"]
    confusion, phase = held.files("texts")
    assert phase.startswith("texts/phase/step-4-")
    assert held.read(phase) == b"warm-up"
    assert b"tensor" in held.read(confusion)


def test_a_step_that_is_not_given(logger):
    logger.log_metrics({"a": 1})
    assert [point[:2] for point in Held(logger).points("a")] == [(0, 1.0)]


@pytest.mark.parametrize("asynchronous", [True, False])
def test_direct_use_may_continue_before_the_response(make_logger, mlflow_server, asynchronous):
    logger = make_logger(tracking_uri=mlflow_server.uri, synchronous=not asynchronous)
    for step in range(20):
        logger.log_metrics({"a": step / 4}, step)
    logger.flush()
    assert [point[:2] for point in Held(logger).points("a")] == [(step, step / 4) for step in range(20)]


# Summaries


def test_minimum_and_maximum(logger):
    logger.define_metric("loss", summary="min")
    logger.define_metric("val/*", goal="maximize")
    logger.define_metric("val/loss", summary="best", goal="minimize")
    for step, value in enumerate([3.0, 1.0, math.nan, 1.0, 0.5]):
        logger.log_metrics({"loss": value, "val/acc": value, "val/loss": value, "other": value}, step)
    held = Held(logger)
    assert [point[:2] for point in held.points("loss.min")] == [(0, 3.0), (1, 1.0), (4, 0.5)]
    assert [point[:2] for point in held.points("val/acc.max")] == [(0, 3.0)]
    assert [point[:2] for point in held.points("val/loss.min")] == [(0, 3.0), (1, 1.0), (4, 0.5)]
    assert {key for key in held.metrics if key.endswith((".min", ".max"))} == {
        "loss.min",
        "val/acc.max",
        "val/loss.min",
    }


def test_the_last_definition_is_used(logger):
    logger.define_metric("*", summary="min")
    logger.define_metric("acc*", summary="max")
    logger.define_metric("loss", summary="last")
    for value in (1.0, 2.0, 0.5):
        logger.log_metrics({"a": value, "acc": value, "loss": value}, 0)
    assert {key for key in Held(logger).metrics if "." in key} == {"a.min", "acc.max"}


def test_a_summary_of_a_name_that_mlflow_refuses(logger):
    logger.define_metric("loss [0]", summary="min")
    with pytest.warns(UserWarning, match="refuses the name"):
        logger.log_metrics({"loss [0]": 0.5}, 0)
    held = Held(logger)
    assert held.metrics == {"loss :5B:0:5D:": 0.5, "loss :5B:0:5D:.min": 0.5}
    assert held.tags["rankzero.name.loss :5B:0:5D:.min"] == "loss [0].min"


def test_prefix_of_a_defined_metric(make_logger):
    logger = make_logger(prefix="fold1")
    logger.define_metric("loss", summary="min")
    logger.log_metrics({"loss": 0.5}, 0)
    assert Held(logger).metrics == {"fold1-loss": 0.5, "fold1-loss.min": 0.5}


def test_a_summary_continues_in_another_process(make_logger, run_info):
    journal = JournalOf(run_info)
    journal.add(DefineMetric(TIME, "loss", summary="min"))
    journal.log_all([(step, {"loss": value}) for step, value in [(0, 3.0), (90, 1.0), (95, 2.0)]])
    journal.add(Finish(TIME, "failed"))
    journal.deliver(make_logger)
    # From a checkpoint of step 50 on.
    journal.log_all([(step, {"loss": value}) for step, value in [(51, 2.5), (52, 0.5), (53, 0.75)]], first=3)
    journal.deliver(make_logger)
    held = Held(journal.last)
    assert held.metrics["loss.min"] == 0.5
    assert [point[:2] for point in held.points("loss.min")] == [(0, 3.0), (90, 1.0), (90, 0.5)]


def test_a_summary_that_is_delivered_again(make_logger, run_info):
    journal = JournalOf(run_info)
    journal.add(DefineMetric(TIME, "loss", summary="min"))
    journal.log_all([(step, {"loss": value}) for step, value in enumerate([3.0, 1.0, 2.0])])
    with pytest.raises(KilledError):
        journal.deliver(make_logger, courier=DyingCourier)
    journal.deliver(make_logger)
    held = Held(journal.last)
    assert [point[:2] for point in held.points("loss.min")] == [(0, 3.0), (1, 1.0)]
    assert [point[:2] for point in held.points("loss")] == [(0, 3.0), (1, 1.0), (2, 2.0)]


def test_an_unsupported_summary_causes_one_warning(logger):
    with pytest.warns(UserWarning, match="^MLflow (has no|plots)") as said:
        logger.define_metric("loss", step_metric="epoch", summary="mean")
    logger.define_metric("loss", step_metric="epoch", summary="mean")
    assert [str(each.message) for each in said] == [
        "MLflow has no summary 'mean'; 'loss' shows its last value",
        "MLflow plots 'loss' over steps or time, not over 'epoch'",
    ]

"""Delivery of system metrics to MLflow's tab for them."""

from plugins.mlflow.tracked import Held

from rankzero.events.run_info import LogContext, MetricsRow

SAMPLE = {"system/cpu_percent": 12.5, "system/gpu1/memory_gb": 61.5}


def test_they_arrive_with_their_times(attach, run_info):
    logger = attach(prefix="mine")
    rows = [
        MetricsRow(
            {**SAMPLE, "system/cpu_percent": number / 4}, None, LogContext(run_info.started + 10 * number, number)
        )
        for number in range(1, 4)
    ]
    with logger.at(LogContext(run_info.started, 0)):
        logger.log_metrics({"loss": 1.0}, 0)
        logger.log_metrics_batch(rows)
    logger.flush()
    held = Held(logger)
    milliseconds = round(run_info.started * 1000)
    assert held.points("system/cpu_percent") == [
        (10 * number, number / 4, milliseconds + 10_000 * number) for number in range(1, 4)
    ]
    assert [value for _, value, _ in held.points("system/gpu1/memory_gb")] == [61.5] * 3
    assert held.metrics.keys() == {"mine-loss", *SAMPLE}
    found = logger.read_metrics(["loss", "system/cpu_percent"])
    assert [len(found[name]) for name in ("loss", "system/cpu_percent")] == [1, 3]

"""System metrics of the journal become W&B's system metrics with their times, not rows."""

from rankzero.events.run_info import LogContext, MetricsRow
from rankzero_wandb import WandbLogger

SAMPLE = {
    "system/cpu_percent": 12.5,
    "system/memory_percent": 40.0,
    "system/network_sent_gb": 0.5,
    "system/process/cpu_percent": 150.0,
    "system/process/memory_gb": 2.0,
    "system/gpu1/utilization_percent": 97,
    "system/gpu1/memory_gb": 61.5,
    "system/gpu1/temperature_celsius": 70,
    "system/node2/cpu_percent": 3.5,
    "system/node2/gpu1/memory_gb": 5.0,
}
IN_WANDB = {
    "system.cpu_percent": 12.5,
    "system.memory_percent": 40.0,
    "system.network.sent": 500_000_000,
    "system.process.cpu_percent": 150.0,
    "system.proc.memory.rssMB": 2e9 / 2**20,
    "system.gpu.1.gpu": 97,
    "system.gpu.1.memoryAllocatedBytes": 61_500_000_000,
    "system.gpu.1.temp": 70,
    "system.cpu_percent/l:node2": 3.5,
    "system.gpu.1.memoryAllocatedBytes/l:node2": 5_000_000_000,
}


def row(line, time, values, step=None):
    return MetricsRow(values, step, LogContext(time, line))


def test_they_arrive_with_their_times(server, here, closing, run_info):
    logger = closing(WandbLogger(project="p", prefix="mine"))
    logger.attach(run_info)
    times = [run_info.started + 10 * number for number in range(3)]
    rows = [row(number + 1, time, SAMPLE) for number, time in enumerate(times)]
    with logger.at(LogContext(times[-1], 4)):
        logger.log_metrics_batch([row(0, times[0], {"loss": 1.0}, 0), *rows, row(4, times[-1], {"loss": 0.5}, 1)])
    logger.flush()
    ((_, run),) = server.store.runs.items()  # before the end, when W&B's client sends everything
    assert [each["_timestamp"] for each in run.events] == times
    for each in run.events:
        assert {name: value for name, value in each.items() if name.startswith("system.")} == IN_WANDB
    assert [(each["mine-loss"], each["trainer/global_step"]) for each in run.history] == [(1.0, 0), (0.5, 1)]
    found = logger.read_metrics(["loss", "system/cpu_percent"])
    assert (len(found["loss"]), found["system/cpu_percent"]) == (2, None)  # W&B has them in another form


def test_the_setting_of_the_client_leaves_them_out(server, here, closing, run_info):
    logger = closing(WandbLogger(project="p", settings={"x_disable_stats": True}))
    logger.attach(run_info)
    with logger.at(LogContext(run_info.started, 1)):
        logger.log_metrics_batch([row(0, run_info.started, {"loss": 1.0}, 0), row(1, run_info.started, SAMPLE)])
    logger.finalize("success")
    ((_, run),) = server.store.runs.items()
    assert (run.events, len(run.history)) == ([], 1)

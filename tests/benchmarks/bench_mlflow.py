"""Values per second to a real ``mlflow server``, and the duration of a log call: Lightning's logger and rankzero.

The server has four workers, the default of ``mlflow server``, and a SQLite database. rankzero's time is from the first
log call until the server has confirmed the last one; its courier runs already, and its start is shown separately.
"""

import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from lightning.pytorch.loggers import MLFlowLogger
from measuring import Table, in_turns, median_ratio, percentile
from mlflow import MlflowClient

sys.path.insert(0, str(Path(__file__).parents[1]))
from servers.mlflow_server import MlflowServer

import rankzero

ROUNDS = 3
STEPS = 60
"""Calls of Lightning's logger in a round."""
MORE = 60
"""How many times as many calls of rankzero, which together take two or three times as long."""
FASTER = 30
"""Minimum ratio of values per second, rankzero to Lightning's logger."""
METRICS = {f"metric_{index}": index / 3 for index in range(10)}
PATIENCE = 60.0


class Bench:
    """Logs to one server with both loggers.

    Args:
        uri: the server.
        directory: the directory of the run.
    """

    def __init__(self, uri: str, directory: Path) -> None:
        self.lightning = MLFlowLogger("lightning", tracking_uri=uri)
        self.lightning.log_metrics(METRICS, 0)
        self.lightning_calls: list[int] = []
        began = time.perf_counter()
        self.run = rankzero.start("mlflow", tracking_uri=uri, dir=directory)
        self.run.log_metrics(METRICS, 0)
        self._wait()
        self.start_up = time.perf_counter() - began
        self.run_calls: list[int] = []

    def log_lightning(self) -> Sequence[float]:
        """Return the seconds per value."""
        return [self._log(self.lightning.log_metrics, self.lightning_calls, STEPS, lambda: None)]

    def log_run(self) -> Sequence[float]:
        """Return the seconds per value."""
        return [self._log(self.run.log_metrics, self.run_calls, STEPS * MORE, self._wait)]

    def _log(self, log_metrics, calls: list[int], steps: int, wait) -> float:
        clock, first = time.perf_counter_ns, len(calls) + 1
        start = clock()
        for step in range(first, first + steps):
            began = clock()
            log_metrics(METRICS, step)
            calls.append(clock() - began)
        wait()
        return (clock() - start) / 1e9 / steps / len(METRICS)

    def _wait(self) -> None:
        if not self.run.flush(PATIENCE):
            raise RuntimeError(f"not everything arrived; see {self.run.dir / 'courier.log'}")

    def check(self, client: MlflowClient) -> None:
        """Raise unless the server has every value exactly once."""
        (experiment,) = client.search_experiments(filter_string="name = 'default'")
        (mlflow_run,) = client.search_runs([experiment.experiment_id])
        for run_id, calls in ((mlflow_run.info.run_id, self.run_calls), (self.lightning.run_id, self.lightning_calls)):
            for name, value in METRICS.items():
                points = client.get_metric_history(run_id, name)
                if [(point.step, point.value) for point in points] != [(step, value) for step in range(len(calls) + 1)]:
                    raise RuntimeError(f"{len(calls) + 1} values of {name} were logged, and {len(points)} arrived")


def main() -> None:
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        server = MlflowServer(Path(directory), workers=4)
        server.start()
        try:
            bench = Bench(server.uri, Path(directory))
            rounds = [(theirs[0], ours[0]) for theirs, ours in in_turns(ROUNDS, bench.log_lightning, bench.log_run)]
            bench.check(MlflowClient(server.uri))
            bench.run.finish()
        finally:
            server.kill()
    table = Table(f"MLflow, ten metrics a step, {ROUNDS} rounds of {STEPS} and {STEPS * MORE:,} steps")
    table.show_noise([theirs for theirs, _ in rounds])
    lightning, ours = (1 / median(part) for part in zip(*rounds, strict=True))
    table.show("delivered by Lightning's MLFlowLogger", lightning, "values/s", digits=0)
    table.show("delivered by rankzero", ours, "values/s", digits=0)
    table.show("time for a value, of Lightning's", median_ratio(rounds) * 100, "%", limit=100 / FASTER, digits=1)
    table.show("  Lightning's / rankzero's", 1 / median_ratio(rounds), "×", digits=1)
    table.show("start of the courier, until its first value is there", bench.start_up, "s")
    for percent in (50, 99):
        for name, calls in (("Lightning", bench.lightning_calls), ("rankzero", bench.run_calls)):
            table.show(f"a log call blocks, {name}, p{percent}", percentile(calls, percent) / 1000, "µs", digits=1)
    table.exit()


if __name__ == "__main__":
    main()

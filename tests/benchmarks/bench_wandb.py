"""The duration of a log call, and rows per second to W&B: Lightning's logger, ``run.log``, and rankzero.

The client and its compiled core are real, and send once a second, as rankzero configures them; the server is a mock on
loopback, in another process, that responds at once. Rows are delivered when the server has them; with rankzero, when
`Run.flush` has returned. Its courier lets W&B confirm each 4 MiB of the journal, which takes up to a second.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import wandb
from lightning.pytorch.loggers import WandbLogger
from measuring import Table, median_ratio, percentile

sys.path.insert(0, str(Path(__file__).parents[1]))
from servers.wandb_mock.run import HISTORY
from servers.wandb_server import WandbServer

import rankzero

ROUNDS = 9
STEPS = 300
"""Calls in a round, of each of the three."""
ROWS = 10_000
"""Logged at once, to measure the speed of delivery."""
FASTER = 30
"""Minimum ratio of the durations of a log call, Lightning's logger to rankzero."""
METRICS = {f"metric_{index}": index / 3 for index in range(9)}
TIMEOUT = 300.0


class Server:
    """The server, in a separate process.

    Args:
        directory: the directory of W&B's client.
    """

    def __init__(self, directory: Path) -> None:
        command = [sys.executable, __file__, "serve", str(directory)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.environment = self._answer()

    def wait_for(self, run_id: str, rows: int) -> None:
        """Wait until a run has a number of rows; raise if they are not those that were logged."""
        self._process.stdin.write(json.dumps([run_id, rows]) + "\n")
        self._process.stdin.flush()
        if self._answer() != list(range(rows)):
            raise RuntimeError(f"{rows} rows were logged to {run_id}, and others arrived")

    def _answer(self):
        return json.loads(self._process.stdout.readline())

    def end(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def serve(directory: str) -> None:
    """Run the server until standard input ends."""
    with WandbServer() as server:
        print(json.dumps(server.environment(Path(directory))), flush=True)
        for line in sys.stdin:
            print(json.dumps(arrived(server, *json.loads(line))), flush=True)


def arrived(server: WandbServer, run_id: str, rows: int) -> list[int]:
    """Return the numbers of a run's rows when it has at least this many."""
    server.until(lambda server: server.run(run_id).line_count(HISTORY) >= rows)
    return [row["row"] for row in server.run(run_id).history]


class Bench:
    """Logs to three runs in turns."""

    def __init__(self, server: Server, directory: Path) -> None:
        self._server = server
        theirs = wandb.init(project="bench", id="lightning", reinit="create_new")
        raw = wandb.init(project="bench", id="raw", reinit="create_new")
        self._wandb_runs = [theirs, raw]
        began = time.perf_counter()
        self.run = rankzero.start("wandb", project="bench", run_id="rankzero", dir=directory)
        lightning = WandbLogger(experiment=theirs)
        self._log: dict[str, Callable] = {
            "lightning": lightning.log_metrics,
            "raw": lambda values, step: raw.log(values),
            "rankzero": self.run.log_metrics,
        }
        self._rows = dict.fromkeys(self._log, 0)
        for name in self._log:
            self.blocked(name, 1)
        self._wait("rankzero")
        self.start_up = time.perf_counter() - began

    def blocked(self, name: str, steps: int) -> Sequence[int]:
        """Return the duration of each log call in nanoseconds."""
        log, clock, calls, first = self._log[name], time.perf_counter_ns, [], self._rows[name]
        for step in range(first, first + steps):
            values = {"row": step, **METRICS}  # ten
            began = clock()
            log(values, step)
            calls.append(clock() - began)
        self._rows[name] += steps
        return calls

    def delivered(self, name: str, rows: int) -> float:
        """Return the rows delivered per second."""
        self._wait(name)
        began = time.perf_counter()
        self.blocked(name, rows)
        self._wait(name)
        return rows / (time.perf_counter() - began)

    def _wait(self, name: str) -> None:
        if name == "rankzero" and not self.run.flush(TIMEOUT):
            raise RuntimeError(f"not everything arrived; see {self.run.dir / 'courier.log'}")
        self._server.wait_for(name, self._rows[name])

    def end(self) -> None:
        for run in [self.run, *self._wandb_runs]:
            run.finish()


def main() -> None:
    warnings.simplefilter("ignore")
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        del os.environ[name]
    names = ("lightning", "raw", "rankzero")
    calls = {name: [] for name in names}
    rounds = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        server = Server(Path(directory))
        os.environ.update(server.environment)
        bench = Bench(server, Path(directory))
        try:
            for number in range(ROUNDS):
                took = {name: bench.blocked(name, STEPS) for name in (names if number % 2 else reversed(names))}
                for name in names:
                    calls[name] += took[name]
                rounds.append(tuple(percentile(took[name], 50) for name in names))
            delivered = {name: bench.delivered(name, ROWS) for name in ("raw", "rankzero")}
        finally:
            bench.end()
            server.end()
    table = Table(f"W&B, ten metrics a step, {ROUNDS} rounds of {STEPS} steps each")
    table.show_noise([theirs for theirs, _, _ in rounds])
    for name, what in (("lightning", "Lightning's WandbLogger"), ("raw", "run.log"), ("rankzero", "rankzero")):
        for percent in (50, 99):
            table.show(
                f"a log call blocks, {what}, p{percent}", percentile(calls[name], percent) / 1000, "µs", digits=1
            )
    ratio = median_ratio([(theirs, ours) for theirs, _, ours in rounds])
    table.show("rankzero's p50, of Lightning's", ratio * 100, "%", limit=100 / FASTER, digits=1)
    table.show("  so many times less", 1 / ratio, "×", digits=1)
    raw = median_ratio([(raw, ours) for _, raw, ours in rounds])
    table.show("  so many times less than run.log's", 1 / raw, "×", digits=1)
    table.show(f"delivered by run.log, {ROWS:,} rows at once", delivered["raw"], "/s", digits=0)
    table.show(f"delivered by rankzero, {ROWS:,} rows at once", delivered["rankzero"], "/s", digits=0)
    table.show("start, until the first row is there", bench.start_up, "s")
    table.exit()


if __name__ == "__main__":
    serve(sys.argv[2]) if sys.argv[1:2] == ["serve"] else main()

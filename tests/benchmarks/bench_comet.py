"""The duration of a log call, and values per second to Comet: Lightning's logger, ``log_metrics``, and rankzero.

The client is real; the server is a mock on loopback, in another process, that responds at once. Values are delivered
when the server has them; with rankzero, when `Run.flush` has returned.
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

import comet_ml
from lightning.pytorch.loggers import CometLogger
from measuring import Table, median_ratio, percentile

sys.path.insert(0, str(Path(__file__).parents[1]))
from servers.comet_server import CometServer

import rankzero

ROUNDS = 9
STEPS = 300
"""Calls in a round, of each of the three."""
ROWS = 10_000
"""Logged at once, to measure the speed of delivery."""
FASTER = 15
"""Minimum ratio of the durations of a log call, Lightning's logger to rankzero."""
SLOWEST = 6_000
"""Minimum of values per second with rankzero."""
KEYS = {"lightning": "a" * 32, "raw": "b" * 32, "rankzero": "c" * 32}
TEN = {f"metric_{index}": index / 3 for index in range(9)}
PATIENCE = 300.0


class Server:
    """The server, in a separate process.

    Args:
        directory: the directory of Comet's client.
    """

    def __init__(self, directory: Path) -> None:
        command = [sys.executable, __file__, "serve", str(directory)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.environment = self._answer()

    def wait_for(self, key: str, rows: int) -> None:
        """Wait until an experiment has a number of rows; raise if they are not those that were logged."""
        self._process.stdin.write(json.dumps([key, rows]) + "\n")
        self._process.stdin.flush()
        if self._answer() != list(range(rows)):
            raise RuntimeError(f"{rows} rows were logged to {key}, and others arrived")

    def _answer(self):
        return json.loads(self._process.stdout.readline())

    def end(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def serve(directory: str) -> None:
    """Run the server until standard input ends."""
    with CometServer() as server:
        print(json.dumps(server.environment(Path(directory))), flush=True)
        for line in sys.stdin:
            print(json.dumps(arrived(server, *json.loads(line))), flush=True)


def arrived(server: CometServer, key: str, rows: int) -> list[int]:
    """Return the numbers of an experiment's rows when it has at least this many."""
    deadline = time.monotonic() + PATIENCE
    while len(found := [value for _, value, _ in server.experiment(key).series("row")]) < rows:
        if time.monotonic() > deadline:
            break
        time.sleep(0.005)  # short, but cheap for the server
    return sorted(found)  # Comet's client sends times, but in any order


class Bench:
    """Logs to three experiments in turns."""

    def __init__(self, server: Server, directory: Path) -> None:
        self._server = server
        quiet = dict.fromkeys(("log_code", "log_env_details", "log_git_metadata", "log_git_patch", "parse_args"), False)
        quiet |= {"auto_output_logging": False, "display_summary_level": 0}
        lightning = CometLogger(experiment_key=KEYS["lightning"], **quiet)
        comet_ml.config.set_global_experiment(None)  # or Comet's client ends the first when the second begins
        raw = comet_ml.start(experiment_key=KEYS["raw"], experiment_config=comet_ml.ExperimentConfig(**quiet))
        self._experiments = [lightning.experiment, raw]
        began = time.perf_counter()
        self.run = rankzero.start("comet", run_id=KEYS["rankzero"], dir=directory, **quiet)
        self._log: dict[str, Callable] = {
            "lightning": lightning.log_metrics,
            "raw": lambda values, step: raw.log_metrics(values, step=step),
            "rankzero": self.run.log_metrics,
        }
        self._rows = dict.fromkeys(self._log, 0)
        for name in self._log:
            self.blocked(name, 1)
        self._wait("rankzero")
        self.start_up = time.perf_counter() - began

    def blocked(self, name: str, steps: int, more: dict[str, float] = TEN) -> Sequence[int]:
        """Return the duration of each log call in nanoseconds."""
        log, clock, calls, first = self._log[name], time.perf_counter_ns, [], self._rows[name]
        for step in range(first, first + steps):
            values = {"row": step, **more}
            began = clock()
            log(values, step)
            calls.append(clock() - began)
        self._rows[name] += steps
        return calls

    def delivered(self, name: str, more: dict[str, float]) -> float:
        """Return the values delivered per second."""
        self._wait(name)
        began = time.perf_counter()
        self.blocked(name, ROWS, more)
        self._wait(name)
        return ROWS * (1 + len(more)) / (time.perf_counter() - began)

    def _wait(self, name: str) -> None:
        if name == "rankzero" and not self.run.flush(PATIENCE):
            raise RuntimeError(f"not everything arrived; see {self.run.dir / 'courier.log'}")
        self._server.wait_for(KEYS[name], self._rows[name])

    def end(self) -> None:
        self.run.finish()
        for experiment in self._experiments:
            experiment.end()


def main() -> None:
    warnings.simplefilter("ignore")
    for name in [name for name in os.environ if name.startswith("COMET_")]:
        del os.environ[name]
    names = tuple(KEYS)
    calls = {name: [] for name in names}
    rounds = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        server = Server(Path(directory))
        os.environ.update(server.environment, COMET_LOGGING_CONSOLE="ERROR")
        bench = Bench(server, Path(directory))
        try:
            for number in range(ROUNDS):
                took = {name: bench.blocked(name, STEPS) for name in (names if number % 2 else reversed(names))}
                for name in names:
                    calls[name] += took[name]
                rounds.append(tuple(percentile(took[name], 50) for name in names))
            delivered = {
                (name, len(more) + 1): bench.delivered(name, more) for name in ("raw", "rankzero") for more in ({}, TEN)
            }
        finally:
            bench.end()
            server.end()
    report(calls, rounds, delivered, bench.start_up)


def report(calls: dict, rounds: list, delivered: dict, start_up: float) -> None:
    table = Table(f"Comet, ten metrics a step, {ROUNDS} rounds of {STEPS} steps each")
    table.show_noise([theirs for theirs, _, _ in rounds])
    told = {"lightning": "Lightning's CometLogger", "raw": "log_metrics", "rankzero": "rankzero"}
    for name, what in told.items():
        for percent in (50, 99):
            table.show(
                f"a log call blocks, {what}, p{percent}", percentile(calls[name], percent) / 1000, "µs", digits=1
            )
    ratio = median_ratio([(theirs, ours) for theirs, _, ours in rounds])
    table.show("rankzero's p50, of Lightning's", ratio * 100, "%", limit=100 / FASTER, digits=1)
    table.show("  so many times less", 1 / ratio, "×", digits=1)
    raw = median_ratio([(raw, ours) for _, raw, ours in rounds])
    table.show("  so many times less than log_metrics's", 1 / raw, "×", digits=1)
    for (name, width), rate in delivered.items():
        limit = round(1e6 / SLOWEST) if name == "rankzero" else None
        what = f"{told[name]}, {ROWS:,} rows of {width}"
        table.show(f"delivered by {what}", rate, "/s", digits=0)
        table.show("  that is, for each value", 1e6 / rate, "µs", limit=limit, digits=1)
    table.show("start, until the first row is there", start_up, "s")
    table.exit()


if __name__ == "__main__":
    serve(sys.argv[2]) if sys.argv[1:2] == ["serve"] else main()

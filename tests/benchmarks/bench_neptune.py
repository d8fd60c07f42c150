"""The duration of a log call, and rows per second to Neptune: Neptune's client, and rankzero.

The client is real; the server is a mock on loopback, in another process, that responds at once. The client's
``run[name].append`` is called for each metric, as Lightning's last ``NeptuneLogger`` did. Rows are delivered when
``run.wait`` or `Run.flush` has returned.
"""

import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import neptune
from measuring import Table, median_ratio, percentile

sys.path.insert(0, str(Path(__file__).parents[1]))
from servers.neptune_server import separate_neptune

import rankzero

ROUNDS = 9
STEPS = 300
"""Calls in a round, of each of the two."""
ROWS = 5_000
"""Logged at once, to measure the speed of delivery."""
FASTER = 30
"""Minimum ratio of the durations of a log call, Neptune's client to rankzero."""
METRICS = {f"metric_{index}": index / 3 for index in range(9)}
PATIENCE = 300.0
QUIET = {
    **dict.fromkeys(["capture_stdout", "capture_stderr", "capture_hardware_metrics", "capture_traceback"], False),
    "source_files": [],
    "git_ref": False,
}


class Bench:
    """Logs to two runs in turns.

    Args:
        directory: the directory of the run.
    """

    def __init__(self, directory: Path) -> None:
        began = time.perf_counter()
        self.run = rankzero.start("neptune", dir=directory, **QUIET)
        self._raw = neptune.init_run(**QUIET)
        self._log: dict[str, Callable] = {"raw": self._log_raw, "rankzero": self.run.log_metrics}
        self._rows = dict.fromkeys(self._log, 0)
        for name in self._log:
            self.blocked(name, 1)
        self._wait("rankzero")
        self.start_up = time.perf_counter() - began

    def _log_raw(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self._raw[name].append(value, step=step)

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
        if name == "raw":
            self._raw.wait()
        elif not self.run.flush(PATIENCE):
            raise RuntimeError(f"not everything arrived; see {self.run.dir / 'courier.log'}")

    def check(self) -> None:
        """Raise unless the server has every row exactly once."""
        self.run.finish()
        with neptune.init_project(mode="read-only") as project:
            runs = project.fetch_runs_table(columns=["rankzero/run_id"], progress_bar=False).to_pandas()
        (ours,) = runs[runs["rankzero/run_id"] == self.run.id]["sys/id"]
        stored = neptune.init_run(with_id=ours, mode="read-only")
        for run, path, name in ((self._raw, "row", "raw"), (stored, "training/row", "rankzero")):
            values = list(run[path].fetch_values(progress_bar=False)["value"])
            if values != list(range(self._rows[name])):
                raise RuntimeError(f"{self._rows[name]} rows were logged by {name}, and {len(values)} arrived")
        self._raw.stop()


def main() -> None:
    warnings.simplefilter("ignore")
    for name in [name for name in os.environ if name.startswith("NEPTUNE_")]:
        del os.environ[name]
    names = ("raw", "rankzero")
    calls = {name: [] for name in names}
    rounds = []
    with separate_neptune() as environment, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        os.environ.update(environment)
        os.chdir(directory)
        bench = Bench(Path(directory))
        for number in range(ROUNDS):
            took = {name: bench.blocked(name, STEPS) for name in (names if number % 2 else reversed(names))}
            for name in names:
                calls[name] += took[name]
            rounds.append(tuple(percentile(took[name], 50) for name in names))
        delivered = {name: bench.delivered(name, ROWS) for name in names}
        bench.check()
        os.chdir("/")
    table = Table(f"Neptune, ten metrics a step, {ROUNDS} rounds of {STEPS} steps each")
    table.show_noise([theirs for theirs, _ in rounds])
    for name, what in (("raw", "run[name].append"), ("rankzero", "rankzero")):
        for percent in (50, 99):
            table.show(
                f"a log call blocks, {what}, p{percent}", percentile(calls[name], percent) / 1000, "µs", digits=1
            )
    ratio = median_ratio(rounds)
    table.show("rankzero's p50, of the client's", ratio * 100, "%", limit=100 / FASTER, digits=1)
    table.show("  so many times less", 1 / ratio, "×", digits=1)
    table.show(f"delivered by the client, {ROWS:,} rows at once", delivered["raw"], "/s", digits=0)
    table.show(f"delivered by rankzero, {ROWS:,} rows at once", delivered["rankzero"], "/s", digits=0)
    table.show("start, until the first row is there", bench.start_up, "s")
    table.exit()


if __name__ == "__main__":
    main()

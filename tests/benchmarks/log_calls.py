"""Measure log calls and delivery: rankzero, and other ways to log to the same tracker."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from measuring import Table, median_ratio, percentile

import rankzero

ROUNDS = 9
STEPS = 300
"""Calls in a round, of each way to log."""
NINE = {f"metric_{index}": index / 3 for index in range(9)}
"""Logged in each row, with the number of the row as the tenth metric."""
TIMEOUT = 300.0


class Server:
    """A mock server in a separate process, which runs the same script with ``serve DIRECTORY``.

    Args:
        script: the script; it calls `serve`.
        directory: the directory of the tracker's client.
    """

    def __init__(self, script: str, directory: Path) -> None:
        command = [sys.executable, script, "serve", str(directory)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.environment = self._answer()

    def wait_for(self, run: str, rows: int) -> None:
        """Wait until a run has a number of rows; raise if they are not those that were logged."""
        self._process.stdin.write(json.dumps([run, rows]) + "\n")
        self._process.stdin.flush()
        if self._answer() != list(range(rows)):
            raise RuntimeError(f"{rows} rows were logged to {run}, and others arrived")

    def _answer(self):
        return json.loads(self._process.stdout.readline())

    def end(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def serve(environment: Mapping[str, str], arrived: Callable[[str, int], list[int]]) -> None:
    """Answer a `Server` until standard input ends.

    Args:
        environment: the variables with which clients find the server.
        arrived: returns the numbers of a run's rows when it has at least this many.
    """
    print(json.dumps(environment), flush=True)
    for line in sys.stdin:
        print(json.dumps(arrived(*json.loads(line))), flush=True)


class Bench:
    """Logs to several runs in turns.

    Args:
        start: starts rankzero's run.
        others: name → a log call to another run.
        wait_for: waits until the run with a name has a number of rows.
    """

    def __init__(
        self, start: Callable[[], rankzero.Run], others: dict[str, Callable], wait_for: Callable[[str, int], None]
    ) -> None:
        self._wait_for = wait_for
        began = time.perf_counter()
        self.run = start()
        self._log = {**others, "rankzero": self.run.log_metrics}
        self.rows = dict.fromkeys(self._log, 0)
        """Name → the number of rows that were logged."""
        for name in self._log:
            self._blocked(name, 1, NINE)
        self._wait("rankzero")
        self.start_up = time.perf_counter() - began
        self._rounds: list[dict[str, Sequence[int]]] = []

    def run_rounds(self) -> None:
        """Measure log calls."""
        for number in range(ROUNDS):
            names = self._log if number % 2 else reversed(self._log)
            self._rounds.append({name: self._blocked(name, STEPS, NINE) for name in names})

    def delivered(self, name: str, rows: int, more: dict[str, float] = NINE) -> float:
        """Return the rows delivered per second."""
        self._wait(name)
        began = time.perf_counter()
        self._blocked(name, rows, more)
        self._wait(name)
        return rows / (time.perf_counter() - began)

    def show(self, tracker: str, titles: Mapping[str, str], faster: float) -> Table:
        """Print the durations of log calls.

        Args:
            tracker: the name of the tracker.
            titles: name → what logs; rankzero must take a part of the time of the first one.
            faster: minimum ratio of the durations of a log call, the first one to rankzero.
        """
        table = Table(f"{tracker}, ten metrics a step, {ROUNDS} rounds of {STEPS} steps each")
        medians = {name: [percentile(each[name], 50) for each in self._rounds] for name in titles}
        first, *others, ours = medians
        table.show_noise(medians[first])
        for name, title in titles.items():
            calls = [call for each in self._rounds for call in each[name]]
            for percent in (50, 99):
                table.show(f"a log call blocks, {title}, p{percent}", percentile(calls, percent) / 1000, "µs", digits=1)
        ratio = median_ratio(list(zip(medians[first], medians[ours], strict=True)))
        table.show(f"rankzero's p50, of {titles[first]}", ratio * 100, "%", limit=100 / faster, digits=1)
        table.show(f"  {titles[first]} / rankzero", 1 / ratio, "×", digits=1)
        for name in others:
            ratio = median_ratio(list(zip(medians[name], medians[ours], strict=True)))
            table.show(f"  {titles[name]} / rankzero", 1 / ratio, "×", digits=1)
        return table

    def _blocked(self, name: str, steps: int, more: dict[str, float]) -> Sequence[int]:
        """Return the duration of each log call in nanoseconds."""
        log, clock, calls, first = self._log[name], time.perf_counter_ns, [], self.rows[name]
        for step in range(first, first + steps):
            values = {"row": step, **more}
            began = clock()
            log(values, step)
            calls.append(clock() - began)
        self.rows[name] += steps
        return calls

    def _wait(self, name: str) -> None:
        if name == "rankzero" and not self.run.flush(TIMEOUT):
            raise RuntimeError(f"not everything arrived; see {self.run.dir / 'courier.log'}")
        self._wait_for(name, self.rows[name])

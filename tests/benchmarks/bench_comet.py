"""The duration of a log call, and values per second to Comet: Lightning's logger, ``log_metrics``, and rankzero.

The client is real; the server is a mock on loopback, in another process, that responds at once. Values are delivered
when the server has them; with rankzero, when `Run.flush` has returned.
"""

import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

import comet_ml
from lightning.pytorch.loggers import CometLogger
from log_calls import NINE, TIMEOUT, Bench, Server, serve

sys.path.insert(0, str(Path(__file__).parents[1]))
from servers.comet_server import CometServer

import rankzero

ROWS = 10_000
"""Logged at once, to measure the speed of delivery."""
FASTER = 15
"""Minimum ratio of the durations of a log call, Lightning's logger to rankzero."""
SLOWEST = 6_000
"""Minimum of values per second with rankzero."""
KEYS = {"lightning": "a" * 32, "raw": "b" * 32, "rankzero": "c" * 32}
TITLES = {"lightning": "Lightning's CometLogger", "raw": "log_metrics", "rankzero": "rankzero"}
QUIET = {
    **dict.fromkeys(["log_code", "log_env_details", "log_git_metadata", "log_git_patch", "parse_args"], False),
    "auto_output_logging": False,
    "display_summary_level": 0,
}


def arrived(server: CometServer, key: str, rows: int) -> list[int]:
    """Return the numbers of an experiment's rows when it has at least this many."""
    deadline = time.monotonic() + TIMEOUT
    while len(found := [value for _, value, _ in server.experiment(key).series("row")]) < rows:
        if time.monotonic() > deadline:
            break
        time.sleep(0.005)  # short, but cheap for the server
    return sorted(found)  # Comet's client sends times, but in any order


def run_server(directory: Path) -> None:
    with CometServer() as server:
        serve(server.environment(directory), lambda key, rows: arrived(server, key, rows))


def main() -> None:
    warnings.simplefilter("ignore")
    for name in [name for name in os.environ if name.startswith("COMET_")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        server = Server(__file__, Path(directory))
        os.environ.update(server.environment, COMET_LOGGING_CONSOLE="ERROR")
        lightning = CometLogger(experiment_key=KEYS["lightning"], **QUIET)
        comet_ml.config.set_global_experiment(None)  # or Comet's client ends the first when the second begins
        raw = comet_ml.start(experiment_key=KEYS["raw"], experiment_config=comet_ml.ExperimentConfig(**QUIET))
        bench = Bench(
            lambda: rankzero.start("comet", run_id=KEYS["rankzero"], dir=directory, **QUIET),
            {"lightning": lightning.log_metrics, "raw": lambda values, step: raw.log_metrics(values, step=step)},
            lambda name, rows: server.wait_for(KEYS[name], rows),
        )
        try:
            bench.run_rounds()
            rates = {
                (name, len(more) + 1): bench.delivered(name, ROWS, more)
                for name in ("raw", "rankzero")
                for more in ({}, NINE)
            }
        finally:
            for each in (bench.run.finish, lightning.experiment.end, raw.end, server.end):
                each()
    table = bench.show("Comet", TITLES, FASTER)
    for (name, width), rate in rates.items():
        limit = round(1e6 / SLOWEST) if name == "rankzero" else None
        table.show(f"delivered by {TITLES[name]}, {ROWS:,} rows of {width}", rate * width, "/s", digits=0)
        table.show("  that is, for each value", 1e6 / rate / width, "µs", limit=limit, digits=1)
    table.show("start, until the first row is there", bench.start_up, "s")
    table.exit()


if __name__ == "__main__":
    run_server(Path(sys.argv[2])) if sys.argv[1:2] == ["serve"] else main()

"""The duration of a log call, and rows per second to W&B: Lightning's logger, ``run.log``, and rankzero.

The client and its compiled core are real, and send once a second, as rankzero configures them; the server is a mock on
loopback, in another process, that responds at once. Rows are delivered when the server has them; with rankzero, when
`Run.flush` has returned. Its courier lets W&B confirm each 4 MiB of the journal, which takes up to a second.
"""

import os
import sys
import tempfile
import warnings
from pathlib import Path

import wandb
from lightning.pytorch.loggers import WandbLogger
from log_calls import Bench, Server, serve

sys.path.insert(0, str(Path(__file__).parents[1]))
from servers.wandb_mock.run import HISTORY
from servers.wandb_server import WandbServer

import rankzero

ROWS = 10_000
"""Logged at once, to measure the speed of delivery."""
FASTER = 30
"""Minimum ratio of the durations of a log call, Lightning's logger to rankzero."""
TITLES = {"lightning": "Lightning's WandbLogger", "raw": "run.log", "rankzero": "rankzero"}


def arrived(server: WandbServer, run_id: str, rows: int) -> list[int]:
    """Return the numbers of a run's rows when it has at least this many."""
    server.until(lambda server: server.run(run_id).line_count(HISTORY) >= rows)
    return [row["row"] for row in server.run(run_id).history]


def run_server(directory: Path) -> None:
    with WandbServer() as server:
        serve(server.environment(directory), lambda run_id, rows: arrived(server, run_id, rows))


def main() -> None:
    warnings.simplefilter("ignore")
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        server = Server(__file__, Path(directory))
        os.environ.update(server.environment)
        theirs = wandb.init(project="bench", id="lightning", reinit="create_new")
        raw = wandb.init(project="bench", id="raw", reinit="create_new")
        bench = Bench(
            lambda: rankzero.start("wandb", project="bench", run_id="rankzero", dir=directory),
            {"lightning": WandbLogger(experiment=theirs).log_metrics, "raw": lambda values, step: raw.log(values)},
            server.wait_for,
        )
        try:
            bench.run_rounds()
            rates = {name: bench.delivered(name, ROWS) for name in ("raw", "rankzero")}
        finally:
            for each in (bench.run.finish, theirs.finish, raw.finish, server.end):
                each()
    table = bench.show("W&B", TITLES, FASTER)
    for name, rate in rates.items():
        table.show(f"delivered by {TITLES[name]}, {ROWS:,} rows at once", rate, "/s", digits=0)
    table.show("start, until the first row is there", bench.start_up, "s")
    table.exit()


if __name__ == "__main__":
    run_server(Path(sys.argv[2])) if sys.argv[1:2] == ["serve"] else main()

"""The duration of a log call, and rows per second to Neptune: Neptune's client, and rankzero.

The client is real; the server is a mock on loopback, in another process, that responds at once. The client's
``run[name].append`` is called for each metric, as Lightning's last ``NeptuneLogger`` did. Rows are delivered when
``run.wait`` or `Run.flush` has returned.
"""

import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import neptune
from log_calls import Bench

sys.path.insert(0, str(Path(__file__).parents[1]))
from servers.neptune_server import separate_neptune

import rankzero

ROWS = 5_000
"""Logged at once, to measure the speed of delivery."""
FASTER = 30
"""Minimum ratio of the durations of a log call, Neptune's client to rankzero."""
TITLES = {"raw": "run[name].append", "rankzero": "rankzero"}
QUIET = {
    **dict.fromkeys(["capture_stdout", "capture_stderr", "capture_hardware_metrics", "capture_traceback"], False),
    "source_files": [],
    "git_ref": False,
}


def check(bench: Bench, raw: Any) -> None:
    """Raise unless the server has every row exactly once."""
    bench.run.finish()
    with neptune.init_project(mode="read-only") as project:
        runs = project.fetch_runs_table(columns=["rankzero/run_id"], progress_bar=False).to_pandas()
    (ours,) = runs[runs["rankzero/run_id"] == bench.run.id]["sys/id"]
    stored = neptune.init_run(with_id=ours, mode="read-only")
    for run, path, name in ((raw, "row", "raw"), (stored, "training/row", "rankzero")):
        values = list(run[path].fetch_values(progress_bar=False)["value"])
        if values != list(range(bench.rows[name])):
            raise RuntimeError(f"{bench.rows[name]} rows were logged by {name}, and {len(values)} arrived")
    raw.stop()


def main() -> None:
    warnings.simplefilter("ignore")
    for name in [name for name in os.environ if name.startswith("NEPTUNE_")]:
        del os.environ[name]
    with separate_neptune() as environment, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        os.environ.update(environment)
        os.chdir(directory)
        raw = neptune.init_run(**QUIET)

        def log_raw(values: dict[str, float], step: int) -> None:
            for name, value in values.items():
                raw[name].append(value, step=step)

        bench = Bench(
            lambda: rankzero.start("neptune", dir=directory, **QUIET),
            {"raw": log_raw},
            lambda name, rows: raw.wait() if name == "raw" else None,
        )
        bench.run_rounds()
        rates = {name: bench.delivered(name, ROWS) for name in TITLES}
        check(bench, raw)
        os.chdir("/")
    table = bench.show("Neptune", TITLES, FASTER)
    for name, rate in rates.items():
        table.show(f"delivered by {TITLES[name]}, {ROWS:,} rows at once", rate, "/s", digits=0)
    table.show("start, until the first row is there", bench.start_up, "s")
    table.exit()


if __name__ == "__main__":
    main()

"""Import an MLflow run of 200,000 points from a file store and a database, and a directory with a thousand short runs.

The run is compared with MLflow's client, which only reads the points, and with mlflow-export-import, which writes them
to a JSON file.
"""

import os
import sqlite3
import sys
import tempfile
from contextlib import closing, redirect_stdout
from pathlib import Path

from measuring import in_new_process, measure

from rankzero.importers.writing import import_run
from rankzero_mlflow.importing.importer import MlflowImporter

STEPS = 20_000
NAMES = [f"metric_{index}" for index in range(10)]
POINTS = STEPS * len(NAMES)
RUNS = 1000
STARTED = 1_700_000_000_000

MOST_MB = 60
MOST_SECONDS = 60
"""The limit for the thousand runs."""


def value(step, index):
    return (step + index) / 3


def make_run(uri):
    """Create a run, and return its id."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    run = client.create_run(client.create_experiment("bench"), start_time=STARTED).info.run_id
    for name in NAMES:
        client.log_metric(run, name, -1.0, STARTED)
    return run


def fill_database(path, run):
    """Write the rows that MLflow writes during training."""
    with closing(sqlite3.connect(path)) as database:
        database.executemany(
            "INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan) VALUES (?, ?, ?, ?, ?, 0)",
            ((name, value(s, i), STARTED + s, run, s) for s in range(STEPS) for i, name in enumerate(NAMES)),
        )
        database.commit()


def fill_run(directory, names, steps):
    """Write the files that MLflow writes during training."""
    (directory / "metrics").mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        lines = (f"{STARTED + step} {value(step, index)} {step}\n" for step in range(steps))
        (directory / "metrics" / name).write_text("".join(lines))


def take(source, runs):
    """Import the runs, or what is new of them."""

    def work():
        found = MlflowImporter().find([source])
        return sum(import_run(each, Path(runs), "bench", known={}).values for each in found)

    measure(work)


def read(uri, run):
    """Read all points with MLflow's client, which keeps one metric at a time."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    measure(lambda: sum(len(client.get_metric_history(run, name)) for name in client.get_run(run).data.metrics))


def export(uri, run, output):
    """Export the run with mlflow-export-import."""
    os.environ["MLFLOW_TRACKING_URI"] = uri
    with redirect_stdout(sys.stderr):
        from mlflow import MlflowClient
        from mlflow_export_import.run.export_run import RunExporter

    def work():
        with redirect_stdout(sys.stderr):
            assert RunExporter(MlflowClient(uri)).export_run(run, output)
        return 1

    measure(work)


def main():
    os.environ |= {"MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
    too_slow = False
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        in_files, in_database = make_run(f"{place}/mlruns"), make_run(f"sqlite:///{place}/mlflow.db")
        (run_dir,) = directory.glob(f"mlruns/*/{in_files}")
        fill_run(run_dir, NAMES, STEPS)
        fill_database(directory / "mlflow.db", in_database)
        sources = {
            "file store": (directory / "mlruns", directory / "mlruns", in_files),
            "database": (directory / "mlflow.db", f"sqlite:///{place}/mlflow.db", in_database),
        }
        for kind, (source, uri, run) in sources.items():
            theirs, their_memory, points = in_new_process("read", uri, run)
            exported, export_memory, _ = in_new_process("export", uri, run, directory / f"export of {kind}")
            ours, memory, values = in_new_process("take", source, directory / f"runs of {kind}")
            assert min(points, values) >= POINTS
            print(f"{kind}: importing {POINTS:,} points: {ours:.1f} s, {POINTS / ours:,.0f} a second, {memory:.0f} MB")
            print(f"    MLflow's client only reads them in {theirs:.1f} s, {their_memory:.0f} MB")
            print(f"    mlflow-export-import writes them as JSON in {exported:.1f} s, {export_memory:.0f} MB")
            too_slow |= ours > theirs or memory > MOST_MB
        many = directory / "many" / "mlruns" / "1"
        meta = (run_dir / "meta.yaml").read_text()
        for number in range(RUNS):
            fill_run(copy := many / f"{number:032x}", NAMES[:2], 5)
            (copy / "meta.yaml").write_text(meta)
        seconds, _, values = in_new_process("take", directory / "many", directory / "many runs")
        again, _, new = in_new_process("take", directory / "many", directory / "many runs")
        assert (values >= RUNS, new) == (True, 0)
        print(f"{RUNS:,} runs: {seconds:.1f} s (limit {MOST_SECONDS} s); again, with nothing new: {again:.1f} s")
    print(f"limits: not slower than reading with MLflow's client, and {MOST_MB} MB")
    return int(too_slow or seconds > MOST_SECONDS)


if __name__ == "__main__":
    commands = {"take": take, "read": read, "export": export}
    sys.exit(commands[sys.argv[1]](*sys.argv[2:]) if len(sys.argv) > 1 else main())

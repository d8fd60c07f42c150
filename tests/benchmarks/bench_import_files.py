"""Import CSV, JSON lines, the log of Hugging Face's Trainer and Trackio's database, compared with reading them.

bench_import_files.py [ROWS]
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from measuring import Table, peak

NAMES = ["train/loss", "train/acc", "val/loss", "lr"]
ROWS = 1_000_000
TURNS = 2


class Source(NamedTuple):
    """A source to import."""

    path: str
    share: float
    """The share of all rows to use: some tools keep them in memory, or write them slowly."""
    beside: str
    """The usual tool to read it."""
    most_mb: float | None
    """The memory limit of the import; None if the source must be read at once."""


SOURCES = {
    "csv": Source("log.csv", 1, "pandas", 40),
    "jsonl": Source("log.jsonl", 1, "pandas", 40),
    "hf": Source("out", 0.1, "transformers", None),
    "trackio": Source("trackio", 0.1, "trackio", 60),
}
MOST_TIMES = 25
"""Maximum ratio to the CPU time of reading with a compiled parser, without writing a journal."""


def values(step, rows):
    return dict(zip(NAMES, [1 / (step + 3), step / rows, 3 / (step + 7), 1e-4], strict=True))


def write(importer, directory, rows):
    """Write the source as its tool does."""
    path = directory / SOURCES[importer].path
    times = (1.7e9 + step / 7 for step in range(rows))
    match importer:
        case "csv":
            with open(path, "w") as file:
                file.write(",".join(["step", "time", *NAMES]) + "\n")
                for step, at in enumerate(times):
                    file.write(f"{step},{at:.3f},{','.join(map(repr, values(step, rows).values()))}\n")
        case "jsonl":
            with open(path, "w") as file:
                for step, at in enumerate(times):
                    file.write(json.dumps({"step": step, "time": round(at, 3), **values(step, rows)}) + "\n")
        case "hf":
            from transformers import TrainerState

            (path / f"checkpoint-{rows}").mkdir(parents=True)
            log = [{**values(step, rows), "epoch": step / 1000, "step": step} for step in range(rows)]
            TrainerState(log_history=log, global_step=rows).save_to_json(path / f"checkpoint-{rows}/trainer_state.json")
        case "trackio":
            os.environ["TRACKIO_DIR"] = str(path)
            from trackio.sqlite_storage import SQLiteStorage

            stamps = [time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(at)) for at in times]
            logged = [values(step, rows) for step in range(rows)]
            SQLiteStorage.bulk_log("bench", "run", logged, [*range(rows)], stamps, {"lr": 1e-4})


def read(importer, path, rows):
    """Read the source with its usual tool."""
    match importer:
        case "csv" | "jsonl":
            import pandas as pd

            return lambda: len(pd.read_csv(path) if importer == "csv" else pd.read_json(path, lines=True))
        case "hf":
            from transformers import TrainerState

            return lambda: len(TrainerState.load_from_json(f"{path}/checkpoint-{rows}/trainer_state.json").log_history)
        case "trackio":
            os.environ["TRACKIO_DIR"] = path
            from trackio.sqlite_storage import SQLiteStorage

            return lambda: len(SQLiteStorage.get_logs("bench", "run"))


def import_(importer, path, rows):
    from rankzero.importers.registry import make_importer
    from rankzero.importers.writing import import_run

    def work():
        with tempfile.TemporaryDirectory() as runs:
            (found,) = make_importer(importer, {}).find([path])
            return import_run(found, Path(runs), "bench").values // len(NAMES)

    return work


def measure(how, importer, path, rows):
    """Print the seconds of CPU time and the MB of memory of reading or importing."""
    if how == "write":
        write(importer, Path(path), int(rows))
        return
    work = (import_ if how == "rankzero" else read)(importer, path, int(rows))
    before = peak()
    began = time.process_time()
    found = work()
    seconds = time.process_time() - began
    assert found >= int(rows), found
    print(seconds, peak() - before)


def run(*command):
    """Run this file in a new process, which does not inherit memory, and return its output."""
    command = [sys.executable, __file__, *map(str, command)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def measured(*command):
    return [float(each) for each in run(*command).split()[-2:]]


def main(all_rows):
    table = Table(f"Importing rows of {len(NAMES)} metrics")
    with tempfile.TemporaryDirectory() as place:
        for importer, source in SOURCES.items():
            rows = int(all_rows * source.share)
            run("write", importer, place, rows)
            found = {"rankzero": [], source.beside: []}
            for _ in range(TURNS):  # in turns, so that other load affects both
                for how, results in found.items():
                    results.append(measured(how, importer, Path(place, source.path), rows))
            best = {how: [min(each) for each in zip(*results, strict=True)] for how, results in found.items()}
            for how, (seconds, memory) in best.items():
                most_mb = source.most_mb if how == "rankzero" else None
                table.show(
                    f"{importer}, {rows:,} rows, {how}: points a second", rows * len(NAMES) / seconds, "", digits=0
                )
                table.show(f"{importer}, {how}: memory", memory, "MB", most_mb, digits=0)
            ratio = best["rankzero"][0] / best[source.beside][0]
            table.show(f"{importer}: CPU time, compared with {source.beside}", ratio, "", MOST_TIMES)
    table.exit()


if __name__ == "__main__":
    measure(*sys.argv[1:]) if len(sys.argv) > 2 else main(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS)

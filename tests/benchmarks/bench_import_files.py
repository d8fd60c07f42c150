"""Importing a CSV file and JSON lines: a million rows of four metrics, beside reading them with pandas."""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import Table

ROWS = 1_000_000
NAMES = ["train/loss", "train/acc", "val/loss", "lr"]
POINTS = ROWS * len(NAMES)
TURNS = 2
LIMIT_SECONDS = 15
LIMIT_MB = 40


def write(directory):
    with open(directory / "log.csv", "w") as table, open(directory / "log.jsonl", "w") as lines:
        table.write(",".join(["step", "time", *NAMES]) + "\n")
        for step in range(ROWS):
            values = [1 / (step + 3), step / ROWS, 3 / (step + 7), 1e-4]
            table.write(f"{step},{1.7e9 + step / 7:.3f},{','.join(map(repr, values))}\n")
            pairs = ", ".join(f'"{name}": {value!r}' for name, value in zip(NAMES, values, strict=True))
            lines.write(f'{{"step": {step}, "time": {1.7e9 + step / 7:.3f}, {pairs}}}\n')


def measure(how, file, runs):
    """Print the seconds of CPU time that it takes and the MB of memory that the process needs for it."""
    if how == "pandas":
        import pandas as pd

        def work():
            frame = pd.read_csv(file) if file.endswith("csv") else pd.read_json(file, lines=True)
            assert len(frame) == ROWS
    else:
        from rankzero.importers.registry import make_importer
        from rankzero.importers.writing import import_run

        def work():
            (found,) = make_importer(Path(file).suffix[1:], {}).find([file])
            assert import_run(found, Path(runs), "bench").values == POINTS

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    work()
    seconds = time.process_time() - began
    print(seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def main():
    table = Table(f"Importing {POINTS:,} points in {ROWS:,} rows")
    with tempfile.TemporaryDirectory() as place:
        write(Path(place))
        for name in ("log.csv", "log.jsonl"):
            found = {"rankzero": [], "pandas": []}
            for turn in range(TURNS):  # in turns, so that both meet the same machine
                for how, results in found.items():
                    command = [sys.executable, __file__, how, str(Path(place, name)), f"{place}/{turn}"]
                    done = subprocess.run(command, capture_output=True, text=True, check=True)
                    results.append([float(each) for each in done.stdout.split()])
            for how, results in found.items():
                seconds, memory = (min(each) for each in zip(*results, strict=True))
                is_own = how == "rankzero"
                table.show(f"{name}, {how}: CPU time", seconds, "s", LIMIT_SECONDS if is_own else None)
                table.show(f"{name}, {how}: points a second of CPU time", POINTS / seconds, "", digits=0)
                table.show(f"{name}, {how}: memory", memory, "MB", LIMIT_MB if is_own else None, digits=0)
    table.exit()


if __name__ == "__main__":
    measure(*sys.argv[1:]) if len(sys.argv) > 1 else main()

"""Import a million points from a log of Neptune's 1.x client, compared with decoding every line with msgspec."""

import json
import sys
import tempfile
import time
from pathlib import Path

import msgspec
from importing import import_all
from measuring import Table, in_new_process, measure

from rankzero_neptune.importing.importer import NeptuneImporter

STEPS = 100_000
NAMES = [f"metric_{index}" for index in range(10)]
POINTS = STEPS * len(NAMES)

MOST_TIMES_BARE = 10
MOST_MB = 40


def write_log(directory):
    """Write the log of a client that gets each value separately, with a separate time."""
    directory.mkdir(parents=True)
    version = 0
    with open(directory / "data-1.log", "w") as file:
        for step in range(STEPS):
            for index, name in enumerate(NAMES):
                version += 1
                point = {"value": (step + index) / 3, "step": step, "ts": 1.7e9 + step / 7 + index * 1e-5}
                operation = {"type": "LogFloats", "path": ["train", name], "values": [point]}
                file.write(json.dumps({"obj": operation, "version": version, "at": point["ts"]}) + "\n")


def bare(directory):
    began = time.perf_counter()
    decode = msgspec.json.Decoder().decode
    with open(directory / "data-1.log", "rb") as file:
        for line in file:
            decode(line)
    return time.perf_counter() - began


def main():
    table = Table(f"Importing {POINTS:,} points of a log of Neptune's 1.x client")
    with tempfile.TemporaryDirectory() as place:
        log = Path(place, ".neptune", "offline", "run__11111111-2222-3333-4444-555555555555__1__abcdefgh")
        write_log(log)
        turns = [(bare(log), in_new_process(place)) for _ in range(3)]
    seconds = min(own[0] for _, own in turns)
    assert all(own[2] == POINTS for _, own in turns)
    table.show("import, with the journal, the fastest", seconds, "s", MOST_TIMES_BARE * min(bare for bare, _ in turns))
    table.show("… memory", max(own[1] for _, own in turns), "MB", MOST_MB, digits=0)
    table.show("points each second", POINTS / seconds / 1e6, "M")
    table.exit()


if __name__ == "__main__":
    measure(lambda: import_all(NeptuneImporter(), sys.argv[1])) if len(sys.argv) > 1 else main()

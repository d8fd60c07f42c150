"""Import 150 MB of event files, compared with TensorBoard's `EventAccumulator` on a tenth of them.

bench_import_tensorboard.py [MB]
"""

import sys
import tempfile
from pathlib import Path

from importing import import_all
from measuring import Table, in_new_process, measure
from tensorboard.backend.event_processing.event_accumulator import STORE_EVERYTHING_SIZE_GUIDANCE, EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from rankzero_tensorboard.event_file import record
from rankzero_tensorboard.importing.importer import TensorBoardImporter

ROUNDS = 3
TAGS = ["train/loss", "train/accuracy", "lr", "val/loss"]
FASTER = 5
"""Minimum ratio of points per second, rankzero to `EventAccumulator`."""
MOST_MB = 60


def write_events(directory, size):
    """Write the records that torch's `SummaryWriter` writes, up to ``size`` bytes; return their number."""
    directory.mkdir()
    count = 0
    with (directory / "events.out.tfevents.1700000000.host.1.0").open("wb") as file:
        file.write(record(Event(wall_time=1.7e9, file_version="brain.Event:2").SerializeToString()))
        while file.tell() < size:
            value = Summary.Value(tag=TAGS[count % 4], simple_value=1 / (count + 3))
            event = Event(wall_time=1.7e9 + count / 81, step=count // 4, summary=Summary(value=[value]))
            file.write(record(event.SerializeToString()))
            count += 1
    return count


def accumulate(directory):
    accumulator = EventAccumulator(directory, size_guidance=STORE_EVERYTHING_SIZE_GUIDANCE).Reload()
    return sum(len(accumulator.Scalars(tag)) for tag in TAGS)


def read(reader, directory):
    measure(lambda: accumulate(directory) if reader == "accumulate" else import_all(TensorBoardImporter(), directory))


def main(megabytes):
    table = Table(f"Importing {megabytes} MB of event files")
    with tempfile.TemporaryDirectory() as place:
        count = write_events(Path(place, "logs"), megabytes * 1_000_000)
        few = write_events(Path(place, "few"), megabytes * 100_000)
        turns = [
            (in_new_process("import", f"{place}/logs"), in_new_process("accumulate", f"{place}/few"))
            for _ in range(ROUNDS)
        ]
    seconds = min(own[0] for own, _ in turns)
    theirs, their_memory, _ = min(other for _, other in turns)
    assert all((own[2], other[2]) == (count, few) for own, other in turns)
    table.show(f"import {count:,} points, with the journal, the fastest", seconds, "s")
    table.show("… memory", max(own[1] for own, _ in turns), "MB", MOST_MB, digits=0)
    table.show("points each second", count / seconds / 1e6, "M")
    table.show("… of EventAccumulator", few / theirs / 1e6, "M")
    table.show(f"memory of EventAccumulator for {few:,} points", their_memory, "MB", digits=0)
    table.show("time for a point, compared with EventAccumulator", seconds / count / (theirs / few), "", 1 / FASTER)
    table.exit()


if __name__ == "__main__":
    read(*sys.argv[1:]) if len(sys.argv) > 2 else main(int(sys.argv[1]) if len(sys.argv) > 1 else 150)

"""Import an offline archive of Comet, compared with `comet upload` without its requests.

bench_import_comet.py [POINTS]
"""

import json
import sys
import tempfile
import zipfile
from pathlib import Path

from importing import import_all
from measuring import Table, in_new_process, measure

from rankzero_comet.importing.importer import CometImporter

ROUNDS = 3
NAMES = [f"metric_{index}" for index in range(10)]
SHARE = 0.5
"""Maximum ratio to the time in which `comet upload` reads the archive, without writing a journal."""
MOST_MB = 60
KEY = "0123456789abcdef" * 2


def write_archive(path, points):
    """Write the archive of an `OfflineExperiment` to which values are logged ten at a time."""
    from comet_ml.messages import MetricMessage

    about = {"offline_id": KEY, "project_name": "bench", "start_time": 1_700_000_000_000, "tags": []}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("experiment.json", json.dumps(about))
        with archive.open("messages.json", "w", force_zip64=True) as file:
            for number in range(points):
                step, index = divmod(number, len(NAMES))
                message = MetricMessage(timestamp=1_700_000_000_000 + 20 * step, message_id=number + 1)
                message.set_metric(NAMES[index], 1 / (number + 3), step=step, epoch=step // 1000)
                line = {"type": message.type, "payload": message.to_message_dict()}
                file.write(json.dumps(line, sort_keys=True, separators=(",", ":")).encode() + b"\n")


def upload(path):
    """Unpack, decode and sample as `comet upload` does."""
    from comet_ml.messages import MetricMessage
    from comet_ml.metrics import MetricsSampler
    from comet_ml.offline import unzip_offline_archive

    sampler = MetricsSampler(15_000)
    with open(Path(unzip_offline_archive(path), "messages.json"), encoding="utf-8") as messages:
        for line in messages:
            sampler.sample_metric(json.loads(line)["payload"])
    return len([MetricMessage.from_message_dict(each) for each in sampler.get_samples()])


def read(reader, path):
    import comet_ml  # noqa: F401  # not what is measured

    measure(lambda: upload(path) if reader == "upload" else import_all(CometImporter(), path))


def main(points):
    table = Table(f"Importing an offline archive of Comet with {points:,} points")
    with tempfile.TemporaryDirectory() as place:
        path = f"{place}/{KEY}.zip"
        write_archive(path, points)
        turns = [(in_new_process("import", path), in_new_process("upload", path)) for _ in range(ROUNDS)]
    seconds, theirs = min(own[0] for own, _ in turns), min(other[0] for _, other in turns)
    assert all(own[2] == points for own, _ in turns)
    table.show("import, with the journal, the fastest", seconds, "s", SHARE * theirs)
    table.show("… memory", max(own[1] for own, _ in turns), "MB", MOST_MB, digits=0)
    table.show("points each second", points / seconds / 1e6, "M")
    table.show("reading of `comet upload`, the fastest", theirs, "s")
    table.show("… memory", max(other[1] for _, other in turns), "MB", digits=0)
    table.show("… points that it keeps", turns[0][1][2], "", digits=0)
    table.exit()


if __name__ == "__main__":
    read(*sys.argv[1:]) if len(sys.argv) > 2 else main(int(sys.argv[1]) if len(sys.argv) > 1 else 500_000)

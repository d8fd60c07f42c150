"""Import an offline run of W&B's client, compared with parsing its records, and with ``wandb sync``."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from importing import import_all
from measuring import Table, in_new_process, measure

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))

from plugins.wandb.logged_runs import log  # noqa: E402
from servers.wandb_server import WandbServer  # noqa: E402

ROWS = 20_000
NAMES = 10
POINTS = ROWS * NAMES
MOST_TIMES_BARE = 10
MOST_MB = 40

SCRIPT = """
with begin("benchrun", settings={"console": "off"}) as run:
    for step in range(rows):
        run.log({f"metric_{index}": (step + 0.1) / (index + 3) for index in range(names)})
"""


def read(source: str) -> None:
    """Print the seconds of parsing, and what `measure` prints of the import."""
    from wandb.proto.wandb_internal_pb2 import Record

    from rankzero_wandb.importing.importer import WandbImporter
    from rankzero_wandb.importing.record_log import MAGIC, RecordLog

    began = time.perf_counter()
    for data in RecordLog(Path(source, "run-benchrun.wandb")).records(len(MAGIC)):
        Record.FromString(data)
    print(time.perf_counter() - began)
    measure(lambda: import_all(WandbImporter(), source))


def sync(run: Path, directory: Path) -> float:
    """Return the seconds of ``wandb sync`` without its start."""
    with WandbServer() as server:
        environment = server.environment(directory)
        wandb = [sys.executable, "-m", "wandb"]
        began = time.perf_counter()
        subprocess.run([*wandb, "--help"], env=environment, check=True, capture_output=True)
        started = time.perf_counter() - began
        began = time.perf_counter()
        subprocess.run([*wandb, "sync", str(run)], env=environment, check=True, capture_output=True)
        seconds = time.perf_counter() - began - started
        (stored,) = server.store.runs.values()
        assert len(stored.history) == ROWS
    return seconds


def main() -> None:
    table = Table(f"Importing {POINTS:,} points of W&B's client")
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        (run,) = (log(directory, SCRIPT, rows=ROWS, names=NAMES) / "wandb").glob("offline-run-*")
        parsing, importing, memory, syncing = [], [], [], []
        for _ in range(3):  # in turns, so that other load affects all
            bare, seconds, megabytes, points = in_new_process(run)
            assert points == POINTS
            parsing.append(bare)
            importing.append(seconds)
            memory.append(megabytes)
            syncing.append(sync(run, directory / "client"))
            (run / "run-benchrun.wandb.synced").unlink(missing_ok=True)
        table.show("wandb sync to a server on loopback", min(syncing), "s")
        table.show("parsing the records", min(parsing), "s")
        table.show("rankzero import wandb", min(importing), "s", MOST_TIMES_BARE * min(parsing))
        table.show("points a second", POINTS / min(importing) / 1000, "k", digits=0)
        table.show("memory for it", max(memory), "MB", MOST_MB, digits=0)
    table.exit()


if __name__ == "__main__":
    read(sys.argv[1]) if len(sys.argv) > 1 else main()

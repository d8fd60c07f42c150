"""Runs that are delivered to a mock server, and their stored data."""

import json
import os
from contextlib import contextmanager

import pytest
import wandb
from servers.wandb_server import WandbServer

import rankzero
from rankzero_wandb import WandbLogger


@contextmanager
def wandb_server(directory):
    """Let this process log to a new server."""
    with WandbServer() as server, pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        for name, value in server.environment(directory).items():
            if name != "WANDB_DIR":
                patch.setenv(name, value)
        wandb.teardown()
        yield server
        wandb.teardown()
    assert server.problems == []


class Delivered:
    """Runs of one server.

    Args:
        server: the server, to which this process logs.
        directory: where the runs are kept.
    """

    def __init__(self, server, directory):
        self.server = server
        self.directory = directory

    def start(self, delivery="thread", logger=None, **options):
        """Start or resume a run."""
        return rankzero.start(
            [logger or WandbLogger()], dir=self.directory / "runs", project="p", delivery=delivery, **options
        )

    def run(self, log, **options):
        """Call ``log(run)`` with a run; return the run and the stored run."""
        with self.start(**options) as run:
            log(run)
        assert rejected(run) == []
        return run, self.server.run(run.id)

    def directly(self, log, **options):
        """Call ``log(logger)`` with a logger in direct use; return the stored run."""
        logger = WandbLogger(**{"save_dir": self.directory, "project": "p", **options})
        try:
            log(logger)
            logger.finalize("success")
        finally:
            logger.close()
        return self.server.run(logger.version)


def rejected(run):
    """Return the reject list."""
    return [path.read_text() for path in run.dir.glob("*.rejected.jsonl")]


def rows(stored, key):
    """Return the rows with a key."""
    return [row for row in stored.history if key in row]


def values(stored, key):
    """Return (step, value) of each row with a key."""
    return [(row.get("trainer/global_step"), row[key]) for row in rows(stored, key)]


def table_in(stored, key):
    """Return (columns, rows) of the only table with a key."""
    (media,) = stored.media(key)
    (file,) = media.files
    table = json.loads(file)
    return table["columns"], table["data"]

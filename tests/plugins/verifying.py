"""Runs that are delivered to a tracker, and verified by ``rankzero sync --verify``."""

import math
import os
import re
from pathlib import Path

import rankzero
from rankzero.cli.app import main

VALUES = [(step + 3) / 64 for step in range(10)]
RUN_ID = "a1" * 16


class Verifying:
    """A run, and the tracker to which it is delivered."""

    def __init__(self, capsys):
        self.run_dir = Path(os.getcwd(), "runs", "p", RUN_ID)
        self._capsys = capsys
        self._arguments = []

    def deliver(self, tracker, *options, more=()):
        """Deliver the run and verify it; return the output.

        Args:
            tracker: the name of the logger.
            options: options of the logger, ``NAME=VALUE``.
            more: names of additional metrics of the run.
        """
        self._arguments = ["--to", tracker, *(part for option in options for part in ("-o", option))]
        with rankzero.start(dir="runs", run_id=RUN_ID, project="p", delivery="off") as run:
            run.log_hyperparams({"lr": 0.1}, {"hp": 0.5})
            for step, value in enumerate(VALUES):
                run.log_metrics({"loss": value, "steps": step * 2, "nan": math.nan}, step=step)
            run.log_metrics({"late": 1, **dict.fromkeys(more, 0.5)})
        status, out, err = self.verify()
        assert (status, err) == (0, "")
        values, metrics = 32 + len(more), 5 + len(more)
        assert re.search(rf" verified {values} values of {metrics} metrics( at \S+)?: no difference\n", out)
        return out

    def verify(self):
        """Return the exit status and the output of ``rankzero sync --verify``."""
        self._capsys.readouterr()
        status = main(["sync", str(self.run_dir), "--verify", *self._arguments])
        return status, *self._capsys.readouterr()

    def expect_differences(self):
        """Verify a tracker whose ``loss`` lacks step 7, has step 0 twice, and 0.25 at step 3."""
        before = self._files()
        status, out, err = self.verify()
        assert (status, "no difference" in out) == (1, False)
        assert re.sub(r" at \S+: d", ": d", err).partition(": ")[2] == (
            "verified 32 values of 5 metrics: differences in 1:\n"
            "  loss: 1 of 10 missing (step 7), 1 more often than logged (step 0), "
            f"1 different (at step 3 {VALUES[3]} was logged, and 0.25 is there)\n"
        )
        assert self._files() == before

    def _files(self):
        return {path: path.stat().st_mtime_ns for path in self.run_dir.rglob("*") if path.is_file()}

"""Training scripts that log to W&B, run as processes."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

from waiting import A_WHILE

TESTS = Path(__file__).parents[2]


class Ended(NamedTuple):
    """A process that has ended."""

    status: int
    stdout: str
    stderr: str


class Workplace:
    """A directory, which is created, and an environment."""

    def __init__(self, directory, environment):
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.environment = environment

    @property
    def run_dir(self):
        """The directory of the only run."""
        (journal,) = self.directory.glob("runs/*/*/journal.jsonl")
        return journal.parent


class Shell(Workplace):
    """Runs processes.

    Args:
        directory: the directory of scripts; created.
        environment: additional variables; those of W&B and rankzero in this process are not passed on.
    """

    def start(self, *command, stdin=subprocess.DEVNULL, **variables):
        """Start a command; a variable that is None is removed."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "RANKZERO_"))}
        directory = str(self.directory / "runs")
        ours = {"PYTHONPATH": str(TESTS), "RANKZERO_DIR": directory, "RANKZERO_SYSTEM_METRICS": "0"}
        given = {**kept, **ours, **self.environment, **variables}
        return subprocess.Popen(
            [str(each) for each in command],
            cwd=self.directory,
            env={name: value for name, value in given.items() if value is not None},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *command, returns=0, **variables):
        """Run a command, which must return ``returns``, unless that is None."""
        with self.start(*command, **variables) as process:
            try:
                ended = Ended(0, *process.communicate(timeout=A_WHILE))
            finally:
                process.kill()
        assert returns in (None, process.returncode), ended
        return ended._replace(status=process.returncode)

    def train(self, body, *arguments, **variables):
        """Run a training script ``train.py``."""
        return self.run(sys.executable, self.write(body), *arguments, **variables)

    def write(self, body):
        """Write ``train.py``, which may wait for `A_WHILE`, and return its path."""
        script = self.directory / "train.py"
        script.write_text("import rankzero\nfrom waiting import A_WHILE\n" + textwrap.dedent(body))
        return script

    def sync(self, run_dir, *options, **variables):
        """Run ``rankzero sync``."""
        return self.run(sys.executable, "-m", "rankzero.cli", "sync", run_dir, *options, **variables)

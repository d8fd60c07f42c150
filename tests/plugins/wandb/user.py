"""Actions of a user in a directory and environment, in this process as if in new ones."""

import io
import os
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import pytest
import wandb
from click.testing import CliRunner
from plugins.wandb.scripts import Ended, Workplace
from wandb.cli.cli import cli as wandb_cli

import rankzero
from rankzero.cli import app


def log_a_row(run):
    run.log_metrics({"loss": 0.5}, 0)


class User(Workplace):
    """A user who trains and delivers runs.

    Args:
        directory: the working directory; created.
        environment: the variables; other variables of W&B, and those that are None, are removed.
    """

    @contextmanager
    def at_work(self, **variables):
        """Let this process act as a new process of the user, with additional variables."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.directory)
            for name in [name for name in os.environ if name.startswith("WANDB_")]:
                patch.delenv(name)
            given = {"RANKZERO_DIR": str(self.directory / "runs"), **self.environment, **variables}
            for name, value in given.items():
                if value is None:
                    patch.delenv(name, raising=False)
                else:
                    patch.setenv(name, value)
            wandb.finish()  # a run left open by a test of direct use
            wandb.teardown()
            yield
            wandb.teardown()

    def train(self, log=log_a_row, variables=None, loggers="wandb", **options):
        """Call ``log(run)`` with a run; return the run."""
        with self.at_work(**(variables or {})), rankzero.start(loggers, **{"delivery": "thread", **options}) as run:
            log(run)
        return run

    def rankzero(self, *arguments, returns=(0,), **variables):
        """Run the command ``rankzero``; return its exit status and output."""
        out, err = io.StringIO(), io.StringIO()
        with self.at_work(**variables), redirect_stdout(out), redirect_stderr(err):
            ended = Ended(app.main([str(each) for each in arguments]), out.getvalue(), err.getvalue())
        assert ended.status in returns, ended
        return ended

    def sync(self, *arguments, **options):
        """Run ``rankzero sync``."""
        return self.rankzero("sync", *arguments, **options)

    def wandb_sync(self, *directories):
        """Run ``wandb sync``."""
        with self.at_work():
            ended = CliRunner().invoke(wandb_cli, ["sync", *map(str, directories)])
        assert ended.exit_code == 0, ended.output

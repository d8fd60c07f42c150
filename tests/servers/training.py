"""Training processes: scripts that log to a `FileLogger` through real couriers."""

import os
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import psutil
from recorded import events_in
from waiting import A_WHILE, until

from rankzero.events.structs import Finish
from rankzero.rundir.positions import load_position

TESTS = Path(__file__).parents[1]
PREAMBLE = """
import os, signal, sys, time
from pathlib import Path
import rankzero
from rankzero.rundir.positions import load_position
from servers.file_logger import BatchFileLogger, FileLogger, fail, heal
from waiting import A_WHILE

directory = Path({directory!r})
tracker = directory / "tracker"

def begin(**options):
    return rankzero.start([FileLogger(tracker)], **{{"dir": directory / "runs", "run_id": "r1", **options}})

def ready():
    (directory / "ready").touch()
"""


class Training:
    """A script in ``directory``, its run, its tracker and its processes."""

    def __init__(self, directory):
        self.directory = directory
        self.tracker = directory / "tracker"
        self.run_dir = directory / "runs" / "default" / "r1"
        self.process = None

    def start(self, body, **options):
        """Start a script, in which ``begin()`` starts the run; `until_ready` waits for its call of ``ready()``."""
        script = self.directory / "train.py"
        script.write_text(PREAMBLE.format(directory=str(self.directory)) + textwrap.dedent(body))
        environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("RANKZERO_") or key == "RANKZERO_CAPTURE_ENVIRONMENT"
        }
        # By this variable, which they inherit, couriers are found.
        path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
        environment |= {"PYTHONPATH": path, "TRAINING_DIRECTORY": str(self.directory), "RANKZERO_SYSTEM_METRICS": "0"}
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, str(script)], env=environment, **{**output, **options})
        return self

    def wait(self):
        """Return (exit status, stdout, stderr)."""
        stdout, stderr = self.process.communicate(timeout=A_WHILE)
        return self.process.returncode, stdout, stderr

    def run(self, body):
        """Run a script to its end."""
        return self.start(body).wait()

    def until_ready(self):
        until((self.directory / "ready").exists)

    def couriers(self):
        """The existing courier processes, including zombies."""
        return [process for process in self.processes() if "rankzero.delivery.worker" in " ".join(_command(process))]

    def processes(self):
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("TRAINING_DIRECTORY") == str(self.directory):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def position(self, key="file"):
        return load_position(self.run_dir, key)

    def statuses(self):
        """The statuses with which the run ended, from the journal."""
        return [event.status for event in events_in(self.run_dir, Finish)]

    def log(self):
        """The log of the couriers."""
        return (self.run_dir / "courier.log").read_text()

    def kill(self):
        """Kill all processes."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):  # it has just ended
                process.kill()
        if self.process is not None:
            self.process.communicate()


def _command(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []

"""Launch real jobs: torchrun and plain processes, which are killed after a timeout."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from waiting import A_WHILE

from rankzero.events.structs import Event, Finish, Metrics
from rankzero.journal.tail import read_events
from rankzero.rundir.layout import JOURNAL

HERE = Path(__file__).parent
LAUNCHER_PREFIXES = ("RANKZERO_", "SLURM_", "TORCHELASTIC_", "OMPI_", "PMI", "WANDB_")
PLACES = ("cwd", "home", "tmp")
OF_OTHERS = ("torchelastic_", "torchinductor_", "tester")  # the last is W&B's client, in a courier


@dataclass
class Job:
    """A job's directory, the reports of its ranks, and its runs."""

    directory: Path
    environment: dict[str, str]
    _started: list[subprocess.Popen] = field(default_factory=list)

    TORCHRUN = (sys.executable, "-m", "torch.distributed.run")

    @classmethod
    def in_directory(cls, directory):
        """A job with a separate working directory, home and temporary directory."""
        for place in PLACES:
            (directory / place).mkdir()
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(LAUNCHER_PREFIXES)}
        return cls(
            directory,
            inherited
            | {
                "REPORTS": str(directory),
                "RANKZERO_DIR": str(directory / "runs"),
                "RANKZERO_CAPTURE_ENVIRONMENT": "0",
                "RANKZERO_SYSTEM_METRICS": "0",
                "HOME": str(directory / "home"),
                "TMPDIR": str(directory / "tmp"),
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")]),
                "PYTHONWARNINGS": "always",
            },
        )

    @property
    def runs(self):
        """The directories of its runs, in the order in which they were started."""
        journals = (self.directory / "runs").glob(f"**/{JOURNAL}")
        return [path.parent for path in sorted(journals, key=lambda path: self.events(path.parent)[0].time)]

    @staticmethod
    def events(run_dir, kind=Event):
        return [event for _, event in read_events(run_dir / JOURNAL) if isinstance(event, kind)]

    def steps(self, run_dir):
        return [event.step for event in self.events(run_dir, Metrics)]

    def ends(self, run_dir):
        return [event.status for event in self.events(run_dir, Finish)]

    def litter(self):
        """The files in the working directory, home and temporary directory, except those of torch and W&B."""
        found = [path for place in PLACES for path in (self.directory / place).iterdir()]
        return [path for path in found if not path.name.startswith(OF_OTHERS)]

    def reports(self):
        """Rank → its arguments of `report`."""
        found = {int(path.stem): json.loads(path.read_text()) for path in self.directory.glob("*.json")}
        return [found[rank] for rank in sorted(found)]

    def torchrun(self, script, *arguments, ranks=4, options=("--standalone",), **how):
        return self.wait(self.start([*self.TORCHRUN, *options, f"--nproc-per-node={ranks}"], script, *arguments), **how)

    def python(self, script, *arguments, **how):
        return self.wait(self.start([sys.executable], script, *arguments), **how)

    def start(self, launcher, script, *arguments, **environment):
        command = [*launcher, str(HERE / "scripts" / script), *arguments]
        with (self.directory / "output.txt").open("ab") as output:
            process = subprocess.Popen(
                command, cwd=self.directory / "cwd", env=self.environment | environment, stdout=output, stderr=output
            )
        self._started.append(process)
        return process

    def wait(self, *processes, status=0):
        """Wait for processes, and return the output; fail if they hang or end otherwise than expected."""
        try:
            for process in processes:
                process.wait(A_WHILE)
        except subprocess.TimeoutExpired:
            self.end()
            pytest.fail(f"the job hangs:\n{self.output}")
        if status is not None:
            assert [process.returncode for process in processes] == [status] * len(processes), self.output
        return self.output

    @property
    def output(self):
        return (self.directory / "output.txt").read_text()

    def processes(self):
        """All processes of this job, including couriers and ranks in separate sessions."""
        for process in psutil.process_iter():
            try:
                if process.environ().get("RANKZERO_DIR") == self.environment["RANKZERO_DIR"]:
                    yield process
            except psutil.Error:
                continue

    def end(self):
        for process in list(self.processes()):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for process in self._started:
            process.wait()


@pytest.fixture
def job(tmp_path):
    job = Job.in_directory(tmp_path)
    yield job
    job.end()


@pytest.fixture(scope="module")
def make_job():
    """Create jobs that several tests use."""
    made = []

    def make(directory):
        made.append(Job.in_directory(directory))
        return made[-1]

    yield make
    for job in made:
        job.end()

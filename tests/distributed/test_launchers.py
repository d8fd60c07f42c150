"""Launchers are recognised: one run, whose id the other ranks know or report why not, and no rank waits.

Where a launcher is not at hand, its environment variables stand for it.
"""

import multiprocessing
import socket
import subprocess
import sys
import time

import pytest
from waiting import A_WHILE, SOON, until

import rankzero.run.start
from rankzero.events.structs import Metrics
from rankzero.run import identity

SLURM = {"SLURM_JOB_ID": "4711", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "3", "SLURM_NTASKS": "3"}
SRUN = {**SLURM, "SLURM_CLUSTER_NAME": "c", "SLURM_STEP_LAUNCHER_PORT": "41234"}
BATCH = {"SLURM_JOB_ID": "4711", "SLURM_STEP_ID": "4294967291", "SLURM_NTASKS": "3", "SLURM_PROCID": "0"}
WORLD = {"WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}

NAMING = {
    "srun": lambda rank: {**SRUN, "SLURM_PROCID": f"{rank}", "SLURM_LOCALID": f"{rank}"},
    "srun, and env://": lambda rank: {**SRUN, **WORLD, "SLURM_PROCID": f"{rank}", "RANK": f"{rank}"},
    "srun --mpi=pmix": lambda rank: {
        **SRUN, "SLURM_PROCID": f"{rank}", "PMIX_NAMESPACE": "slurm.pmix.4711.0", "PMIX_RANK": f"{rank}"
    },
    "mpirun of OpenMPI 4": lambda rank: {
        "OMPI_COMM_WORLD_RANK": f"{rank}", "OMPI_COMM_WORLD_LOCAL_RANK": f"{rank}", "OMPI_COMM_WORLD_SIZE": "3",
        "OMPI_MCA_ess_base_jobid": "3214868481", "PMIX_NAMESPACE": "3214868481", "PMIX_RANK": f"{rank}",
    },
    "mpirun in a batch script, some ranks on other machines": lambda rank: {
        **(BATCH if rank == 0 else {**SLURM, "SLURM_PROCID": "0"}),
        "OMPI_COMM_WORLD_RANK": f"{rank}", "PMIX_NAMESPACE": "prterun-node1-815@1", "PMIX_RANK": f"{rank}",
    },
    "jsrun of LSF": lambda rank: {
        "LSB_JOBID": "12", "JSM_NAMESPACE_RANK": f"{rank}", "JSM_NAMESPACE_LOCAL_RANK": f"{rank}",
        "JSM_NAMESPACE_SIZE": "3", "PMIX_NAMESPACE": "12-1", "PMIX_RANK": f"{rank}",
    },
}  # fmt: skip
"""Launchers that name the launch: by name, the environment of a rank."""

NAMELESS = {
    "env://, as DeepSpeed and Kubeflow": lambda rank: {**WORLD, "RANK": f"{rank}", "LOCAL_RANK": f"{rank}"},
    "mpiexec of MPICH and Intel MPI": lambda rank: {"PMI_RANK": f"{rank}", "PMI_SIZE": "3", "MPI_LOCALRANKID": "0"},
    "mpirun_rsh of MVAPICH2": lambda rank: {"MV2_COMM_WORLD_RANK": f"{rank}", "MV2_COMM_WORLD_SIZE": "3"},
    "Cray's aprun": lambda rank: {"PALS_RANKID": f"{rank}", "PALS_LOCAL_RANKID": f"{rank}"},
    "flux run": lambda rank: {"FLUX_TASK_RANK": f"{rank}", "FLUX_TASK_LOCAL_ID": f"{rank}"},
    "horovodrun": lambda rank: {"HOROVOD_RANK": f"{rank}", "HOROVOD_SIZE": "3"},
    "Lightning, from a shell in SLURM": lambda rank: {
        **BATCH, **({"LOCAL_RANK": f"{rank}", "NODE_RANK": "0", "WORLD_SIZE": "3"} if rank else {})
    },
    "Lightning, one rank on each of three machines": lambda rank: {"NODE_RANK": f"{rank}"},
}  # fmt: skip
"""Launchers that do not."""


def launch(job, environment, places=range(3)):
    job.wait(*(job.start([sys.executable], "launched.py", str(place), **environment(place)) for place in places))
    return job.reports()


@pytest.mark.parametrize("launcher", NAMING)
def test_ranks_agree_by_the_name_of_the_launch(job, launcher):
    reports = launch(job, NAMING[launcher])

    (run,) = job.runs
    assert len(job.events(run, Metrics)) == 5
    assert [report["is_rank_zero"] for report in reports] == [True, False, False]
    assert {tuple(report["known"]) for report in reports} == {tuple(reports[0]["known"])}
    assert reports[0]["known"][0] == run.name
    assert max(report["took"] for report in reports) < SOON
    until(lambda: job.litter() == [])  # SDKs and torch remove theirs a little later


@pytest.mark.parametrize("launcher", NAMELESS)
def test_ranks_say_that_they_cannot_know_the_run(job, launcher):
    zero, *others = launch(job, NAMELESS[launcher])

    (run,) = job.runs
    assert zero["known"][0] == run.name
    for report in others:
        assert report["known"][:2] == ["unknown", "unknown"]
        assert report["took"] < SOON
        assert not report["is_rank_zero"]
    assert job.output.count("does not know the run's id") == 2
    assert "set RANKZERO_RUN_ID for all ranks" in job.output


def test_named_run_is_known_to_all(job):
    job.environment["RANKZERO_RUN_ID"] = "ours"
    reports = launch(job, NAMELESS["horovodrun"])

    assert [run.name for run in job.runs] == ["ours"]
    assert {tuple(report["known"]) for report in reports} == {tuple(reports[0]["known"])}
    assert "does not know" not in job.output


def test_tasks_that_are_separate_jobs(job):
    """With RANK=0 each task of a job step logs a run of its own; all of them start at once."""
    places = range(6)
    disks = [str(job.directory / "runs" / f"node-{place // 2}") for place in places]
    reports = launch(
        job, lambda place: {**SRUN, "SLURM_PROCID": f"{place}", "RANK": "0", "RANKZERO_DIR": disks[place]}, places
    )

    assert len({run.name for run in job.runs}) == 6
    assert sorted(run.name for run in job.runs) == sorted(report["known"][0] for report in reports)


@pytest.mark.parametrize("shell", ["salloc", "srun --pty with several tasks"])
def test_several_programs_in_a_shell_on_a_compute_node(job, shell):
    step = {"SLURM_STEP_ID": "4294967290"} if shell == "salloc" else {}
    reports = launch(job, lambda place: {**SRUN, **step, "SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, range(6))

    assert len(job.runs) == 6
    assert sorted(run.name for run in job.runs) == sorted(report["known"][0] for report in reports)


def test_program_that_starts_in_the_same_moment(job, monkeypatch):
    """Another one begins its run when this one has chosen an id, and not yet taken it."""
    environment = {**SRUN, "SLURM_PROCID": "0", "SLURM_NTASKS": "8", "RANKZERO_DIR": job.environment["RANKZERO_DIR"]}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    existing_start = rankzero.run.start._existing_start

    def meanwhile(*arguments):
        monkeypatch.setattr(rankzero.run.start, "_existing_start", existing_start)
        launch(job, lambda place: environment, [0])
        return existing_start(*arguments)

    monkeypatch.setattr(rankzero.run.start, "next_start", lambda: 0)
    monkeypatch.setattr(rankzero.run.start, "_existing_start", meanwhile)
    with rankzero.start(delivery="off") as run:
        assert not run.resumed
    assert {each.name for each in job.runs} == {run.id, job.reports()[0]["known"][0]}
    assert len(job.runs) == 2


def test_jobs_of_the_same_number_on_two_clusters_are_two_runs(job):
    known = set()
    for cluster in ("east", "west"):
        job.environment["RANKZERO_DIR"] = str(job.directory / "runs" / cluster)
        reports = launch(job, lambda rank: {**NAMING["srun"](rank), "SLURM_CLUSTER_NAME": cluster})  # noqa: B023
        known |= {report["known"][0] for report in reports}
    assert len(known) == 2


def test_rank_set_after_the_import(job):
    job.wait(*(job.start([sys.executable], "late.py", str(rank), "after the import") for rank in range(3)))

    (run,) = job.runs
    assert job.steps(run) == list(range(5))
    assert job.ends(run) == ["success"]


def test_rank_set_after_the_start(job):
    job.wait(*(job.start([sys.executable], "late.py", str(rank), "after the start") for rank in range(2)))

    kept, begun = sorted(job.runs)
    assert (kept.name, begun.name) == ("of-process-0", "of-process-1")
    assert (job.steps(kept), job.ends(kept)) == (list(range(5)), ["success"])
    assert (job.steps(begun), job.ends(begun)) == ([0], ["aborted"])
    assert job.reports()[1]["experiment"] == "DummyExperiment"
    assert job.output.count("turned out not to be rank zero") == 1


@pytest.mark.parametrize(("options", "is_told"), [(["-i"], True), ([], False)])
def test_an_interactive_user_is_warned_of_a_stale_rank(job, options, is_told):
    typed = subprocess.run(
        [sys.executable, *options],
        input="import rankzero\nrun = rankzero.start(delivery='off')\nrun.finish()\n",
        env=job.environment | {"LOCAL_RANK": "3"},
        timeout=A_WHILE,
        check=True,
        capture_output=True,
        text=True,
    )
    assert job.runs == []
    assert ("the environment variable LOCAL_RANK makes it rank 3" in typed.stderr) == is_told


def test_forked_rank_was_born_when_it_was_forked():
    """A store may hold what the ranks of an earlier attempt said, before this one was born."""
    time.sleep(0.1)
    forking = multiprocessing.get_context("fork")
    born = forking.Value("d")
    before = time.time()
    child = forking.Process(target=lambda: setattr(born, "value", identity._born))
    child.start()
    child.join(A_WHILE)
    assert identity._born < before - 0.1
    assert before - 0.05 < born.value <= time.time()  # the kernel counts in hundredths


@pytest.mark.slow
def test_accelerate_starts_the_ranks_of_a_notebook(job):
    pytest.importorskip("accelerate")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job.python("notebook.py", str(port))

    (run,) = job.runs
    zero, one = job.reports()
    assert job.steps(run) == list(range(5))
    assert zero["known"] == one["known"]
    assert zero["known"][0] == run.name
    assert max(zero["took"], one["took"]) < SOON

"""A SLURM job step: plain processes, no process group, nothing shared but environment variables."""

import sys

from rankzero.events.structs import Metrics

STEP = {"SLURM_JOB_ID": "4711", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "3", "SLURM_NTASKS": "3"}


def test_tasks_agree_from_the_environment(job):
    tasks = [job.start([sys.executable], "step.py", **STEP, SLURM_PROCID=str(rank)) for rank in range(3)]
    job.wait(*tasks)

    runs = job.runs
    zero, *others = job.reports()
    assert [run.name for run in runs] == [run_id for run_id, *_ in zero["known"]]
    assert len(set(runs)) == 2
    assert [report["known"] for report in others] == [zero["known"]] * 2
    assert [report["loaded"] for report in others] == [[], []]
    assert [len(job.events(run, Metrics)) for run in runs] == [1, 0]


def test_step_that_runs_again_is_a_new_run(job):
    for restart in ("0", "1"):
        environment = {**STEP, "SLURM_RESTART_COUNT": restart}
        tasks = [job.start([sys.executable], "step.py", **environment, SLURM_PROCID=str(rank)) for rank in range(3)]
        job.wait(*tasks)
        zero, *others = job.reports()
        assert [report["known"] for report in others] == [zero["known"]] * 2
    assert len(job.runs) == 4

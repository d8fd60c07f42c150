"""Data of completed log calls survives SIGKILL, and a resumed run continues after it."""

import inspect
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from waiting import until

import rankzero
from rankzero.events.structs import Metrics, Start
from rankzero.journal.tail import read_events
from rankzero.rundir.layout import JOURNAL


def values(step):
    """The values of a step, in the killed process and in the one that reads its journal."""
    return {
        "loss": 1 / (step + 1),
        "count": step * 10**20,
        "odd/ü": float("nan") if step % 3 else float("-inf"),
        "third": step / 3,
    }


TRAINING = (
    inspect.getsource(values)
    + """
import os, sys
import rankzero

run = rankzero.start(dir=sys.argv[1], run_id="r1", delivery="off")
is_tensor = sys.argv[2] == "tensors"
if is_tensor:
    import numpy
for step in range(run.step + 1, 10**9):
    logged = values(step)
    if is_tensor:
        logged["loss"] = numpy.float64(logged["loss"])
    run.log_metrics(logged, step)
    os.write(1, step.to_bytes(8, "big"))  # only now is the step promised
"""
)


def train(directory, values="floats"):
    """Run the training until a random moment; return the last step that it reported."""
    command = [sys.executable, "-c", TRAINING, directory, values]
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as process:
        reported = _read_step(process.stdout)  # it has begun
        os.set_blocking(process.stdout.fileno(), False)
        end = time.monotonic() + random.uniform(0, 0.05)
        pending = b""
        while time.monotonic() < end:  # a full pipe would hold the training in the same place each time
            pending += process.stdout.read(1 << 16) or b""
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        while more := process.stdout.read(1 << 16):
            pending += more
    steps = [int.from_bytes(pending[at : at + 8], "big") for at in range(0, len(pending) - 7, 8)]
    return steps[-1] if steps else reported


def _read_step(pipe):
    data = b""
    while len(data) < 8:
        data += pipe.read(8 - len(data)) or pytest.fail("the training did not begin")
    return int.from_bytes(data, "big")


def rows(directory):
    path = directory / "default" / "r1" / JOURNAL
    return [event for _, event in read_events(path) if isinstance(event, Metrics)]


def check(found, reported):
    """All steps up to the reported one are stored once and in order; one more step may be stored."""
    steps = [row.step for row in found]
    assert steps == list(range(len(steps)))
    assert reported <= steps[-1] <= reported + 1
    for row in found:
        assert repr(row.numbers()) == repr(values(row.step))


@pytest.mark.parametrize("kind", ["floats", "tensors"])
def test_no_reported_step_is_lost_and_the_run_can_be_resumed(tmp_path, kind):
    so_far = 0
    for _ in range(6):
        reported = train(tmp_path, kind)
        found = rows(tmp_path)
        check(found, reported)
        assert len(found) > so_far, "the resumed run went on"
        so_far = len(found)
    starts = [e for _, e in read_events(tmp_path / "default" / "r1" / JOURNAL) if isinstance(e, Start)]
    assert [start.resumed for start in starts] == [False] + [True] * 5


@pytest.mark.parametrize("trial", range(10))
def test_fresh_run_killed_at_a_random_moment(tmp_path, trial):
    reported = train(tmp_path)
    check(rows(tmp_path), reported)


def test_resumed_after_a_torn_line(tmp_path):
    """A process killed in the middle of its write leaves the beginning of a line."""
    reported = train(tmp_path)
    path = tmp_path / "default" / "r1" / JOURNAL
    before = path.read_bytes()
    last = before.splitlines(keepends=True)[-1]
    path.write_bytes(before + last[: len(last) // 2])
    with rankzero.start(dir=tmp_path, run_id="r1", delivery="off") as run:
        assert run.resumed
        next_step = run.step + 1
        run.log_metrics(values(next_step))
    assert path.read_bytes().startswith(before + b'{"type":"start"'), "the torn line is cut off, and no more"
    assert next_step >= reported
    check(rows(tmp_path), next_step)


def test_killed_in_its_start(tmp_path):
    """Only a part of the first line was written."""
    directory = tmp_path / "default" / "r1"
    with rankzero.start(dir=tmp_path, run_id="r1", delivery="off"):
        pass
    journal = directory / JOURNAL
    journal.write_bytes(journal.read_bytes()[:20])
    with rankzero.start(dir=tmp_path, run_id="r1", delivery="off") as run:
        run.log_metrics({"loss": 0.5})
    assert json.loads(journal.read_bytes().splitlines()[-1])["type"] == "finish"
    data = rankzero.read_run(directory)
    assert (data.info.id, data.status, list(data.metrics["loss"].value)) == ("r1", "success", [0.5])


def test_a_forked_worker_that_outlives_the_run_still_logs(tmp_path):
    script = """
import os, sys, time, rankzero
run = rankzero.start(dir=sys.argv[1], run_id="r1", delivery="off")
if not os.fork():
    while os.getppid() != 1 and not os.path.exists(sys.argv[1] + "/go"):
        time.sleep(0.01)
    run.log_metrics({"from": 1.0}, 7)
    open(sys.argv[1] + "/done", "w").close()
    os._exit(0)
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", script, tmp_path], check=False)
    (tmp_path / "go").touch()
    until((tmp_path / "done").exists)
    assert [(row.step, row.numbers()) for row in rows(tmp_path)] == [(7, {"from": 1.0})]

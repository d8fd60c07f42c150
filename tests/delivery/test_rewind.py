"""A rewind supersedes data of later steps, whether it is delivered already or not."""

from pathlib import Path

import pytest
from kept_files import snapshot
from recorded import write

import rankzero
from rankzero.delivery import courier
from rankzero.delivery.courier import Courier
from rankzero.delivery.refusals import rejected_lines
from rankzero.delivery.verification import compare
from rankzero.errors import PossiblyRejectedError, RejectedError, TrackerUnavailableError
from rankzero.events.run_info import RunInfo
from rankzero.events.structs import Checkpoint, Metrics, Params, Rewind, Start, Text, encode
from rankzero.loggers.base import Logger
from rankzero.rundir.layout import JOURNAL
from rankzero.rundir.positions import load_position, reject_list
from rankzero.testing import MemoryLogger


class KeepsBoth(MemoryLogger):
    """A tracker that cannot delete anything."""

    captures = frozenset()
    rewind = Logger.rewind


class DeletesTheRest(MemoryLogger):
    """Stands for a tracker that can only delete everything after a point; it takes no text twice."""

    def rewind(self, step):
        super().rewind(step)
        return 2

    def log_text(self, *args, **kwargs):
        if any(call.verb == "log_text" for call in self.calls):
            raise RejectedError("deleted")
        super().log_text(*args, **kwargs)


class RunOnDisk:
    def __init__(self, directory):
        self.dir = directory
        self.calls = []
        self.add(Start(1.0, RunInfo("a" * 32, "happy-run", "project", str(directory))))

    def add(self, *events):
        write(self.dir, *events)

    def log(self, *steps):
        self.add(*(Metrics(float(len(self.calls)), step, {"loss": 0.5}) for step in steps))

    def deliver(self, logger=MemoryLogger, grace_period=0):
        Courier(self.dir, "memory", lambda: logger(self.calls), follow=False, grace_period=grace_period).run()
        return [
            call.arguments.get("step") if call.verb == "log_metrics" else (call.verb, call.arguments.get("step"))
            for call in self.calls
            if call.verb.startswith("log_") or call.verb == "rewind"
        ]


@pytest.fixture
def run(tmp_path):
    return RunOnDisk(tmp_path)


@pytest.mark.parametrize("logger", [MemoryLogger, KeepsBoth])
def test_superseded_events_that_are_not_delivered_yet_are_skipped(run, recwarn, logger):
    run.log(0, 1, 2, 3)
    run.add(Rewind(2.0, 2))
    run.log(3, 4)
    run.add(Rewind(3.0, 1))
    run.log(2)
    assert [each for each in run.deliver(logger) if each != ("rewind", 2) and each != ("rewind", 1)] == [0, 1, 2]
    assert not recwarn.list, "nothing that the tracker has was superseded"


def test_only_points_in_the_tracker_must_be_removed(run):
    run.log(0, 1, 2)
    assert run.deliver() == [0, 1, 2]
    run.log(3)
    run.add(Rewind(2.0, 1))
    run.log(2)
    assert run.deliver() == [0, 1, 2, ("rewind", 1), 2]


@pytest.mark.parametrize("fragment", [b"", b'{"type":"metr'])
def test_a_rewind_far_ahead_in_the_journal_is_known_in_advance(run, monkeypatch, fragment):
    monkeypatch.setattr(Logger, "batch_bytes", 50)
    run.log(*range(10))
    run.add(fragment + encode(Rewind(2.0, 1)))
    run.log(2)
    assert run.deliver(KeepsBoth) == [0, 1, 2]


def test_what_is_rewound_while_the_tracker_is_down_is_not_delivered_later(run, monkeypatch):
    class DownAtFirst(MemoryLogger):
        def log_metrics(self, *args, **kwargs):
            if not tried:
                tried.append(True)
                run.add(Rewind(2.0, 1))
                run.log(2)
                raise TrackerUnavailableError("down")
            super().log_metrics(*args, **kwargs)

    tried = []
    monkeypatch.setattr(courier, "pause", lambda failures: 0.0)
    run.log(*range(5))
    assert run.deliver(DownAtFirst, grace_period=60) == [0, 1, ("rewind", 1), 2]


def test_media_are_superseded_and_files_and_events_without_a_step_stay(run):
    (source := run.dir / "last.ckpt").write_bytes(b"weights")
    checkpoint = snapshot(source, run.dir)
    texts = [Text(2.0, "notes", ["text"], [["a"]], step) for step in (5, None)]
    run.add(*texts, Checkpoint(2.0, checkpoint, step=5), Rewind(3.0, 1))
    delivered = run.deliver(KeepsBoth)
    assert delivered == [("log_text", None), ("log_checkpoint", 5)]


def test_a_tracker_that_cannot_rewind_keeps_both_with_one_warning(run):
    run.log(0, 1)
    run.deliver(KeepsBoth)
    run.add(Rewind(2.0, 0))
    run.log(1)
    run.add(Rewind(3.0, -1))
    run.log(0)
    with pytest.warns(UserWarning, match="KeepsBoth cannot take back what it has: of the steps after 0") as warned:
        assert run.deliver(KeepsBoth) == [0, 1, 0]
    assert len(warned) == 1


def test_a_rewind_that_a_tracker_ignores_does_not_show_that_it_accepts_data(run, monkeypatch):
    """An event counts as rejected if the tracker accepts the next one: a call that sends nothing must not count."""
    monkeypatch.setattr("rankzero.delivery.courier.pause", lambda _: 0.0)

    failures = iter(range(20))
    arrived = []

    class Down(Logger):
        name = version = "down"

        def __init__(self, calls):
            super().__init__()

        def log_hyperparams(self, params, *args, **kwargs):
            pass

        def log_metrics(self, metrics, step=None):
            if next(failures, None) is not None:
                raise PossiblyRejectedError("perhaps down")
            arrived.append(step)

    run.log(0)
    run.add(Rewind(2.0, 5))
    run.deliver(Down, grace_period=60)
    assert arrived == [0]
    assert not reject_list(run.dir, "memory").exists()


def test_what_a_tracker_deleted_and_is_not_superseded_is_logged_again(run):
    run.log(0, 5, 1)
    run.add(Params(2.0, {"lr": 0.1}, {"accuracy": 0.5}), Text(2.0, "notes", ["text"], [["a"]]))
    run.deliver(DeletesTheRest)
    run.calls[:-1] = [call for call in run.calls[:-1] if call.verb == "log_text"]
    run.log(0)
    run.add(Rewind(2.0, 3))
    run.log(4)
    assert run.deliver(DeletesTheRest) == [("log_text", None), 0, ("rewind", 3), 1, 0, 0, 4]
    verbs = [call.verb for call in run.calls]
    assert verbs[verbs.index("rewind") - 1] == "flush", "the tracker has everything that was logged before"
    (rejected,) = rejected_lines(run.dir, "memory")
    assert rejected == 5


class ContinuesInNewRun(MemoryLogger):
    """Stands for a tracker that can only delete runs; the first one refuses a row, perhaps permanently."""

    def log_metrics(self, metrics, step=None):
        if step == 2 and not self.is_new:
            raise PossiblyRejectedError("perhaps down")
        super().log_metrics(metrics, step)

    def rewind(self, step):
        is_first = not self.is_new
        super().rewind(step)
        return 0 if is_first else None

    @property
    def is_new(self):
        return any(call.verb == "rewind" for call in self.calls)


def test_a_new_run_gets_the_journal_from_the_beginning(run, monkeypatch):
    """The first event is handed over only when the position is saved: a killed courier must not skip it."""
    monkeypatch.setattr("rankzero.delivery.courier.pause", lambda _: 0.0)
    positions = []

    class SeesPosition(ContinuesInNewRun):
        def log_hyperparams(self, params, *args):
            positions.append(load_position(run.dir, "memory").line)
            super().log_hyperparams(params)

    run.add(Params(2.0, {"lr": 0.1}))
    run.log(0, 5)
    run.deliver(SeesPosition)
    run.log(1, 2)
    run.add(Rewind(2.0, 3))
    run.log(4)
    again = [0, 1, 2, ("rewind", 3), 4]
    params = ("log_hyperparams", None)
    assert run.deliver(SeesPosition, grace_period=60) == [params, 0, 5, 1, ("rewind", 3), params, *again]
    assert positions == [0, 0]
    assert not reject_list(run.dir, "memory").exists()


def test_verification_allows_superseded_points_that_a_tracker_keeps():
    logged, superseded = [(0, 0.5), (1, 0.25)], [(1, 1 / 3), (2, 0.125)]
    everything = [*logged, *superseded]
    assert compare("loss", logged, everything, everything).is_equal
    assert compare("loss", logged, [*logged, (2, 0.125)], everything).is_equal
    assert compare("loss", logged, superseded, everything).missing == logged
    assert compare("loss", logged, [*logged, (2, 7.0)], everything).unknown == [(2, 7.0)]
    assert compare("loss", logged, [*logged, (1, 0.25)], everything).doubled == [(1, 0.25)]
    assert not compare("loss", logged, everything).is_equal


@pytest.mark.parametrize("logger", ["csv", "tensorboard"])
def test_sync_verifies_a_run_that_was_rewound(tmp_path, monkeypatch, capsys, logger):
    from rankzero.cli.app import main

    monkeypatch.chdir(tmp_path)
    for first, resumes in ((0, None), (3, 2)):
        with rankzero.start(logger, dir="runs", run_id="a1", resume_step=resumes, capture_environment=False) as run:
            for step in range(first, 6):
                run.log_metrics({"loss": step + first / 8}, step=step)
            run.log_image("digits", [[[0.5]]], step=5)
    assert main(["sync", str(run.dir), "--to", logger, "--verify"]) == 0, capsys.readouterr()
    assert main(["sync", str(run.dir), "--to", logger, "--again", "--verify"]) == 0, capsys.readouterr()
    (journal,) = Path("runs").rglob(JOURNAL)
    assert journal.read_text().count('"rewind"') == 1

"""Runs that are rewound: with the option ``rewind`` W&B has what `read_run` returns, otherwise both."""

import json
import sys
import warnings

import numpy as np
import pytest
from plugins.wandb.delivered import rejected, rows, values
from plugins.wandb.test_kill import check_that_nothing_was_sent_twice
from servers.wandb_mock.run import StoredRun
from waiting import A_WHILE

import rankzero
from rankzero.rundir.positions import load_position
from rankzero.testing.faults import status
from rankzero_wandb import confirmation

PICTURE = [np.zeros((2, 2, 3), np.uint8)]


def log_first(run):
    """Log also what a rewind to step 3 does not supersede, after what it supersedes."""
    run.log_hyperparams({"lr": 0.1})
    run.define_metric("loss", summary="min")
    run.define_metric("val", summary="max,mean,last")
    run.log_graph(run.dir.parent / "graph.json")
    for step in range(6):
        run.log_metrics({"loss": 5.0 - step, "val": step / 8}, step)
    run.log_metrics({"val": -1.0}, 2)
    run.log_metrics({"other": 0.5})
    run.log_image("picture", PICTURE, step=1)
    run.log_table("table", ["a"], [["kept"]], step=0)
    run.log_image("picture", PICTURE, step=5)
    run.log_metrics({"late": 1.0}, 5)


def log_again(run):
    for step in range(4, 8):
        run.log_metrics({"loss": 10.0 + step}, step)
    run.log_image("picture", PICTURE, step=6)


class Rewound:
    """A run that is delivered, and then rewound to step 3."""

    def __init__(self, user, server):
        self.user, self.server = user, server

    def first(self, **options):
        self.options = {"rewind": True, **options}
        with self.user.at_work(), self.start(delivery="thread") as run:
            (run.dir.parent / "graph.json").write_text('{"nodes": []}')
            log_first(run)
        self.dir = run.dir
        return self

    def again(self, delivery="thread"):
        """Log the second part; return the warnings."""
        with self.user.at_work(), warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            with self.start(delivery=delivery, resume_step=3) as run:
                log_again(run)
        return [str(each.message) for each in warned if "was rewound" in str(each.message)]

    def start(self, **options):
        return rankzero.start({"wandb": self.options}, project="p", run_id="r1", system_metrics=False, **options)

    @property
    def rewinds(self):
        """How often W&B was asked to rewind the run."""
        return self.server.count("RewindRun")

    @property
    def stored(self):
        return self.server.run("r1")

    def expect_rewound(self):
        data = rankzero.read_run(self.dir)
        for name in ("loss", "val", "other"):
            steps = [None if step < 0 else step for step in data.metrics[name].step.tolist()]
            assert values(self.stored, name) == list(zip(steps, data.metrics[name].value.tolist(), strict=True))
        assert values(self.stored, "loss") == [(0, 5), (1, 4), (2, 3), (3, 2), (4, 14), (5, 15), (6, 16), (7, 17)]
        assert rows(self.stored, "late") == []
        assert [row["trainer/global_step"] for row in rows(self.stored, "picture")] == [1, 6]
        assert [len(media.files) for media in self.stored.media("picture")] == [1, 1]
        assert json.loads(self.stored.media("table")[0].files[0])["data"] == [["kept"]]
        check_that_nothing_was_sent_twice(self.server)
        assert self.stored.summary["loss"] == {"min": 2.0}
        assert self.stored.summary["val"] == {"max": 0.375, "mean": (0.75 - 1) / 5, "last": -1.0}
        assert self.stored.summary["graph_0"]["_type"] == "graph-file"
        assert self.stored.state == "finished"
        assert rejected(data) == []
        assert load_position(self.dir, "wandb").closed

    def expect_both(self):
        assert [value for _, value in values(self.stored, "loss")] == [5, 4, 3, 2, 1, 0, 14, 15, 16, 17]
        assert len(rows(self.stored, "late")) == 1
        assert len(rows(self.stored, "val")) == 7
        assert self.stored.summary["val"]["max"] == 0.625
        assert load_position(self.dir, "wandb").closed


@pytest.fixture
def rewound(user, server):
    return Rewound(user, server)


def test_superseded_rows_are_deleted_once(rewound, swallowed_warnings):
    assert rewound.first().again() == []
    rewound.expect_rewound()
    rewound.user.sync(rewound.dir, "--verify")
    rewound.user.sync(rewound.dir, "--again")
    rewound.expect_rewound()
    assert rewound.rewinds == 1


@pytest.mark.parametrize(
    ("request_name", "rewinds", "is_applied"),
    [
        ("UpsertBucket", 0, True),
        ("RewindRun", 1, False),
        ("RewindRun", 1, True),
        ("UpsertBucket", 1, True),
        ("file_stream", 1, True),
    ],
    ids=["opening", "before W&B rewinds", "after W&B rewinds", "opening again", "logging again"],
)
def test_a_killed_courier_is_made_up_for(rewound, shell, request_name, rewinds, is_applied):
    rewound.first().again("off")
    process = shell.start(sys.executable, "-m", "rankzero.cli.app", "sync", rewound.dir)

    def kill(handler):
        is_now = rewound.rewinds == rewinds
        answer = handler.ask() if is_applied or not is_now else None
        if is_now:
            process.kill()
        return answer

    rewound.server.fail(request_name, kill)
    output = process.communicate(timeout=A_WHILE)
    assert process.returncode < 0, output
    rewound.server.heal()
    rewound.user.sync(rewound.dir)
    rewound.expect_rewound()


def test_rows_that_w_and_b_has_not_deleted_yet_are_not_taken_for_new_ones(rewound, monkeypatch):
    rewound.first()
    rewind, calls = StoredRun.rewind, []
    monkeypatch.setattr(StoredRun, "rewind", lambda run, to: calls.append(to) or (calls[1:] and rewind(run, to)))
    rewound.again()
    rewound.expect_rewound()
    assert len(calls) == 2


@pytest.mark.slow
def test_rows_that_are_not_confirmed_in_time_are_not_deleted_again(rewound, monkeypatch):
    rewound.first()
    monkeypatch.setattr(confirmation, "_TIMEOUT", 1.0)
    unavailable = ("file_stream", status(503), 3)
    rewound.server.fail("RewindRun", lambda handler: rewound.server.fail(*unavailable) or handler.ask())
    rewound.again()
    rewound.expect_rewound()
    assert rewound.rewinds == 1


REFUSALS = {
    "no such feature": lambda handler: handler.ask(),
    "not allowed": status(403),
    "an error with 200": status(200, '{"errors": [{"message": "no such field"}]}'),
    "no run": status(200, '{"data": {"rewindRun": null}}'),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_a_server_that_refuses_keeps_both(rewound, refusal):
    rewound.first()
    rewound.server.fail("RewindRun", refusal)
    rewound.server.store.can_rewind = False
    (said,) = rewound.again()
    assert "W&B refused to rewind the run" in said
    rewound.expect_both()


@pytest.mark.parametrize("noted", ["is_shared", "has_late_rows"])
def test_rows_that_are_not_those_of_the_journal_are_never_deleted(rewound, noted):
    state = rewound.first().dir / "wandb-p-r1.json"
    state.write_text(json.dumps({**json.loads(state.read_text()), noted: True}))
    (said,) = rewound.again()
    assert "not only those of the journal" in said
    rewound.expect_both()
    assert not rewound.rewinds


def test_without_the_option_both_stay_and_the_warning_names_it(rewound):
    (said,) = rewound.first(rewind=False).again()
    assert "rewind=True" in said
    rewound.expect_both()


def test_files_of_an_offline_run_are_not_rewound(rewound):
    (said,) = rewound.first(offline=True).again()
    assert "offline" in said

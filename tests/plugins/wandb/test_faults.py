"""A server that refuses, stalls, disconnects or dies: training continues, and afterwards W&B has everything once.

Events that W&B rejects permanently are on the reject list, and block nothing else.
"""

import json
from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import pytest
import wandb
from waiting import A_WHILE, until

import rankzero
from rankzero.cli import app
from rankzero.errors import TrackerUnavailableError
from rankzero.events.run_info import LogContext
from rankzero.rundir.positions import load_position, reject_list, wake
from rankzero.testing.faults import status
from rankzero.testing.full_disk import full_disk
from rankzero.testing.loopback import Answer
from rankzero.testing.runs import EagerCourier, log_rows
from rankzero_wandb import WandbLogger, confirmation
from rankzero_wandb.confirmation import Confirmation, UploadLog
from rankzero_wandb.opening import UploadError
from rankzero_wandb.rows import History, State

STEP = "trainer/global_step"


@pytest.fixture
def begin(here, tmp_path):
    runs = []

    def begin(delivery="thread"):
        runs.append(rankzero.start("wandb", project="p", dir=tmp_path / "runs", delivery=delivery))
        return runs[-1]

    yield begin
    for run in runs:
        run.finish(timeout=0)


def problem_of(run):
    return load_position(run.dir, "wandb").problem


def rejected(run):
    """Return the types of the events on the reject list."""
    path = reject_list(run.dir, "wandb")
    return [json.loads(line)["event"]["type"] for line in path.read_text().splitlines()] if path.exists() else []


def arrived(server, run):
    return [(row[STEP], row["loss"]) for row in server.run(run.id).history if "loss" in row]


def times(server, run):
    return [row["_timestamp"] for row in server.run(run.id).history if "loss" in row]


def check(server, run, count):
    """Compare the stored data with the logged data."""
    assert arrived(server, run) == [(step, step / 3) for step in range(count)]
    logged = [event["time"] for event in journal_of(run) if event["type"] == "metrics"]
    assert times(server, run) == pytest.approx(logged, abs=1e-6)
    assert (server.run(run.id).state, rejected(run)) == ("finished", [])


def journal_of(run):
    return [json.loads(line) for line in (run.dir / "journal.jsonl").read_text().splitlines()]


# Temporary faults


def test_a_temporary_410_loses_nothing(server, begin):
    server.fail("UpsertBucket", status(410))
    run = begin()
    log_rows(run, *range(50))
    assert "cannot be opened" in until(lambda: problem_of(run))
    server.heal()
    wake(run.dir, "wandb")
    assert run.flush(A_WHILE)
    server.fail("file_stream", status(410))
    log_rows(run, *range(50, 100))
    assert "410" in until(lambda: problem_of(run))
    server.heal()
    run.finish(timeout=A_WHILE)
    check(server, run, 100)


@pytest.mark.parametrize("name", ["RunFiles", "/graphql Run", "CommitArtifact"])
def test_a_fault_of_files_and_artifacts_loses_nothing(server, begin, tmp_path, name):
    run = begin()
    run.flush(A_WHILE)
    server.fail(name, status(403), times=2)
    (tmp_path / "weights.bin").write_bytes(b"weights")
    run.log_artifact(tmp_path / "weights.bin", name="weights")
    run.log_image("picture", [np.zeros((4, 4, 3), np.uint8)], step=0)
    log_rows(run, *range(10))
    run.finish(timeout=A_WHILE)
    check(server, run, 10)
    assert list(server.artifact("weights", "p").files.values()) == [b"weights"]
    (picture,) = server.run(run.id).media("picture")
    assert picture.files[0].startswith(b"\x89PNG")


# Responses with 200 that did not store anything


@pytest.fixture
def impatient(monkeypatch):
    """Let a courier thread wait only a short time for rows that W&B's client has sent."""
    monkeypatch.setattr(confirmation, "_TIMEOUT", 3.0)


def accepted(handler):
    """Respond with success without storing anything."""
    return Answer(200, {"Content-Type": "application/json"}, b"{}")


@pytest.mark.slow
def test_missing_rows_are_sent_again(server, begin, impatient):
    run = begin()
    log_rows(run, *range(10))
    assert run.flush(A_WHILE)
    server.fail("file_stream", accepted, body="wandb-history")
    log_rows(run, *range(10, 20))
    assert "has not accepted rows" in until(lambda: problem_of(run))
    server.heal()
    run.finish(timeout=A_WHILE)
    assert arrived(server, run) == [(step, step / 3) for step in range(20)]
    assert server.run(run.id).state == "finished"


@pytest.mark.slow
def test_a_missing_end_is_sent_again(server, begin, impatient):
    run = begin()
    log_rows(run, *range(10))
    server.fail("file_stream", accepted, times=1, body='"complete":true')
    run.finish(timeout=A_WHILE)
    assert arrived(server, run) == [(step, step / 3) for step in range(10)]
    assert server.run(run.id).state == "finished"


def test_rows_that_w_and_b_counts_late_are_not_sent_again(server, begin):
    def late(handler):
        answer = handler.ask()
        return answer._replace(body=answer.body.replace(b'"historyLineCount": 1,', b'"historyLineCount": 0,'))

    server.fail("RunState", late, times=3)
    run = begin()
    log_rows(run, *range(1))
    assert run.flush(A_WHILE)
    assert server.count("RunState") == 4
    assert server.count("RunResumeStatus") == 1
    run.finish(timeout=A_WHILE)
    assert arrived(server, run) == [(0, 0.0)]


def test_rows_that_are_missing_between_others_are_sent_again(server, begin, monkeypatch):
    log_numbered = History._log_numbered

    def in_two_requests(self, values, *args, **kwargs):
        log_numbered(self, values, *args, **kwargs)
        if values.get(STEP) == 14 and not lost:
            lost.append(until(lambda: server.count("file_stream") > sent))

    lost = []
    run = begin()
    log_rows(run, *range(10))
    assert run.flush(A_WHILE)
    monkeypatch.setattr(History, "_log_numbered", in_two_requests)
    sent = server.count("file_stream")
    server.fail("file_stream", status(200), times=1)
    log_rows(run, *range(10, 20))
    run.finish(timeout=A_WHILE)
    assert sorted(arrived(server, run)) == [(step, step / 3) for step in range(20)]
    summary = server.run(run.id).summary
    assert (summary[STEP], summary["loss"]) == (19, 19 / 3)  # although row 14 is the last one in W&B


# A key


@pytest.mark.slow
def test_events_blocked_by_a_revoked_key_are_synced_with_another(server, begin, monkeypatch):
    run = begin("process")
    log_rows(run, *range(50))
    assert run.flush(A_WHILE)
    revoked, server.api_key = server.api_key, "e" * 40
    log_rows(run, *range(50, 100))
    assert "wandb login" in until(lambda: problem_of(run))
    courier_log = (run.dir / "courier.log").read_text()
    assert "wandb login" in courier_log
    assert revoked not in courier_log
    run.finish(timeout=0)
    monkeypatch.setenv("WANDB_API_KEY", server.api_key)
    assert app.main(["sync", str(run.dir)]) == 0
    check(server, run, 100)


# Permanent rejections


@pytest.mark.slow
def test_a_refused_picture_is_rejected_and_blocks_nothing(server, begin):
    run = begin()
    log_rows(run, *range(5))
    server.fail("media/images/big", status(413))
    run.log_image("big", [np.zeros((4, 4, 3), np.uint8)], step=0)
    run.log_image("small", [np.ones((4, 4, 3), np.uint8)], step=0)
    log_rows(run, *range(5, 10))
    run.finish(timeout=A_WHILE)
    assert arrived(server, run) == [(step, step / 3) for step in range(10)]
    assert rejected(run) == ["image"]
    assert len(server.run(run.id).media("small")[0].files) == 1


@pytest.mark.slow
@pytest.mark.parametrize("code", [403, 413])
def test_a_table_with_a_failed_artifact_does_not_count_as_delivered(server, begin, code):
    run = begin()
    server.fail("PUT /artifact-file", status(code), times=2)
    log_rows(run, *range(5))
    run.log_table("table", ["a"], [[np.zeros((2, 2, 3), np.uint8)]])
    log_rows(run, *range(5, 10))
    run.finish(timeout=A_WHILE)
    assert len(arrived(server, run)) == 10
    if server.store.artifacts.find("tester", "p", f"run-{run.id}-table") is None:
        assert rejected(run) == ["table"]


@pytest.mark.slow  # W&B's client sends params every five seconds
def test_refused_params_are_rejected_and_block_nothing(server, begin):
    def refuses_large(handler):
        return status(400)(handler) if b"poison" in handler.body else handler.ask()

    server.fail("UpsertBucket", refuses_large)
    run = begin("off")
    run.log_hyperparams({"poison": 1})
    run.log_hyperparams({"lr": 0.1})
    log_rows(run, *range(10))
    run.finish()
    EagerCourier(run.dir, "wandb", WandbLogger, follow=False, grace_period=A_WHILE).run()
    assert len(arrived(server, run)) == 10
    assert rejected(run) == ["params"]
    assert server.run(run.id).config["lr"] == 0.1


# A full disk


def test_a_run_that_could_not_be_opened_on_a_full_disk_is_opened_when_there_is_room(server, make_logger, run_info):
    wandb.setup().ensure_service()  # not on the full disk
    logger = make_logger()
    logger.attach(run_info)
    with logger.at(LogContext(1.7e9, line=1)):
        for _ in range(2):
            with full_disk(), pytest.raises(TrackerUnavailableError):
                logger.log_metrics({"loss": 0.5}, 0)
        with suppress(TrackerUnavailableError):  # the rest is removed
            logger.log_metrics({"loss": 0.5}, 0)
        logger.log_metrics({"loss": 0.5}, 0)
    logger.flush()
    assert [row["loss"] for row in server.run(run_info.id).history] == [0.5]


# Uploads


@pytest.fixture
def uploads(tmp_path):
    return UploadLog(tmp_path / "debug-internal.log")


@pytest.fixture
def write(tmp_path):
    def write(text):
        with (tmp_path / "debug-internal.log").open("a") as file:
            file.write(text)

    return write


def sending(offset, lines, **more):
    return json.dumps({"msg": "filestream: sending request", "history_offset": offset, "history_lines": lines, **more})


SENT = '{"msg":"filestream: request sent"}\n'


def test_without_a_log_nothing_is_uploaded(uploads):
    uploads.read()
    assert (uploads.rows, uploads.is_complete, uploads.fatal) == (0, False, None)


def test_rows_count_after_the_response(uploads, write):
    write(sending(100, 3) + "\n")
    uploads.read()
    assert uploads.rows == 0
    write(SENT)
    uploads.read()
    assert uploads.rows == 3
    write(sending(None, 0) + "\n" + SENT + sending(103, 2, complete=True) + "\n" + SENT)
    uploads.read()
    assert (uploads.rows, uploads.is_complete) == (5, True)


def test_a_torn_line_is_read_when_it_is_complete(uploads, write):
    line = sending(0, 4) + "\n" + SENT
    write(line[:30])
    uploads.read()
    write(line[30:-5])
    uploads.read()
    assert uploads.rows == 0
    write(line[-5:] + '{"msg":"filestream: nonsense\n' + "no json\n")
    uploads.read()
    assert uploads.rows == 4


def test_the_last_of_two_sessions_in_one_log_counts(uploads, write):
    write(sending(0, 4) + "\n" + SENT + '{"msg":"filestream: fatal error: gone"}\n')
    write('{"msg":"stream: starting"}\n' + sending(4, 1) + "\n" + SENT)
    uploads.read()
    assert (uploads.rows, uploads.fatal) == (1, None)


def test_the_reason_of_a_fatal_error(uploads, write):
    write('{"msg":"filestream: fatal error: filestream: failed to upload: 404 Not Found"}\n')
    with pytest.raises(UploadError, match="404 Not Found"):
        uploads.read()
    assert uploads.fatal == "filestream: failed to upload: 404 Not Found"


def test_a_loss_that_the_client_reports_late_counts(tmp_path, write):
    settings = SimpleNamespace(log_internal=tmp_path / "debug-internal.log", _shared=False)
    run, history = SimpleNamespace(settings=settings), SimpleNamespace(logged=2, state=State())

    class Portal:
        def rows(self):
            write('{"msg":"filestream: json decode error: invalid character"}\n')
            raise TrackerUnavailableError("invalid character")

    confirmation = Confirmation(run, tmp_path, history, Portal())
    write(sending(0, 2) + "\n" + SENT)
    with pytest.raises(TrackerUnavailableError):
        confirmation.wait()
    assert confirmation.has_lost_data


def test_the_reason_of_a_failed_upload(uploads, write):
    task = "DefaultUploadTask{FileKind: 3, Path: /a/b, Name: media/a, b.png, Url: http://host/c, Size: 1}"
    write(json.dumps({"msg": "file transfer: upload: failed to upload: status: 413 Large", "task": task}) + "\n")
    write('{"msg":"runupserter: failed to upload changes","error":"returned error 400"}\n')
    uploads.read()
    assert uploads.failures == {"media/a, b.png": "file transfer: upload: failed to upload: status: 413 Large"}
    assert uploads.settings_failure == "runupserter: failed to upload changes returned error 400"


# The numbers of rows


def test_the_number_of_a_row_is_its_line_plus_the_shift():
    state = State(shifts=[(5, 2), (9, 7)])
    assert [state.number(line) for line in (0, 4, 5, 8, 9, 50)] == [0, 4, 7, 10, 16, 57]


class ClientRun:
    """Counts steps like W&B's client."""

    def __init__(self, starting_step=0):
        self.starting_step = self._local_step = starting_step
        self.rows = []

    def log(self, row, step=None, commit=True):
        if step is None:
            step = self._local_step
        if step >= self._local_step:
            self.rows.append((step, row["v"]))
            self._local_step = step + 1


def test_the_newest_values_are_not_those_of_missing_rows_that_were_logged_after_them():
    state = State(next_number=1, has_gaps=True)
    client = ClientRun(starting_step=5)
    history = History(client, state, lambda: None, lambda first, end: frozenset([3.0, 4.0]))
    for line in (1, 2, 3, 4, 5):
        history.log({"v": line, "_timestamp": float(line), **({"w": 0.5} if line == 4 else {})}, line)
    assert [value for _, value in client.rows] == [1, 2, 5]
    assert history.take_newest() == {"w": 0.5}


def test_rows_of_the_script_shift_those_of_the_journal():
    state = State()
    first = ClientRun()
    history = History(first, state, lambda: None)
    history.log({"v": "a"}, 1)
    first.log({"v": "own"})
    first.log({"v": "own too"})
    history.log({"v": "b"}, 2)
    history.log({"v": "b"}, 2)
    history.log({"v": "c"}, 6)
    assert first.rows == [(1, "a"), (2, "own"), (3, "own too"), (5, "b"), (9, "c")]
    second = ClientRun(starting_step=6)
    history = History(second, state, lambda: None)
    for line, value in ((1, "a"), (2, "b"), (6, "c"), (7, "d")):
        history.log({"v": value}, line)
    assert second.rows == [(9, "c"), (10, "d")]
    assert not state.has_late_rows
    history.log({"v": "refused"}, None)
    assert state.has_late_rows

"""Data that is not sent again after a failure, and data that is sent in batches."""

import pytest
from plugins.comet.journals import deliver, journal_of_rows, points_in, points_logged
from waiting import until

import rankzero
from rankzero import deliver as deliver_run
from rankzero.errors import TrackerUnavailableError
from rankzero.events.run_info import LogContext
from rankzero.testing.faults import dropped, status
from rankzero_comet import CometLogger

OUTPUT = "write/experiment/output"


def test_two_events_with_one_time_stay_two(attached, stored):
    for line, key in enumerate(["first", "second"]):
        with attached.at(LogContext(2.5, line)):
            attached.log_text(key, ["value"], [["the same"]], step=1)
    assert [asset.metadata["key"] for asset in stored().assets] == ["first", "second"]


@pytest.mark.usefixtures("capture_environment")
def test_code_and_machine_are_sent_once_for_each_start(server, here, tmp_path):
    counts = []
    for start in range(2):
        with rankzero.start("comet", run_id="a" * 32, project="p", dir=tmp_path, delivery="thread") as run:
            run.log_metrics({"loss": 0.5}, start)
        counts.append(server.count("system-details"))
        deliver_run(run.dir, CometLogger(), key=f"again-{start}")  # opens it once more
        assert server.count("system-details") == counts[-1]
    assert 0 < counts[0] < counts[1]


@pytest.mark.usefixtures("capture_environment")
@pytest.mark.parametrize("code", [403, 404])
def test_a_server_without_an_endpoint_for_the_machine_gets_the_values(server, here, tmp_path, code):
    server.fail("system-details", status(code))
    run = rankzero.start(dir=tmp_path, delivery="off")
    run.log_metrics({"loss": 0.5}, 1)
    run.finish()
    with pytest.warns(UserWarning, match="Comet will not show all details of the run"):
        deliver(run.dir)
    assert points_in(server.experiment(run.id)) == points_logged(run.dir)


def test_console_lines_are_sent_together(attached, stored, server):
    for line in range(100):
        with attached.at(LogContext(100.0 + line / 100, line)):
            attached.log_console(f"line {line}", "stdout" if line < 90 else "stderr")
    attached.flush()
    assert [(each.text.rstrip(), each.stderr) for each in stored().output] == [
        (f"line {line}", line >= 90) for line in range(100)
    ]
    assert {each.time for each in stored().output} == {100_000, 100_900}
    assert server.count(OUTPUT) == 2


def test_refused_console_lines_do_not_duplicate_values(attached, stored, server):
    server.fail(OUTPUT, status(500), times=1)
    with attached.at(LogContext(100.0, 0)):
        attached.log_metrics({"loss": 0.5}, step=1)
        attached.log_console("said", "stdout")
    attached.flush()  # the values are acknowledged
    attached.flush()
    assert ([each.text.strip() for each in stored().output], len(stored().metrics)) == (["said"], 1)


def test_refused_console_lines_are_delivered_again(attached, stored, server):
    server.fail(OUTPUT, status(500), times=1)
    with attached.at(LogContext(100.0, 0)):
        attached.log_console("said", "stdout")
    with pytest.raises(TrackerUnavailableError):
        attached.flush()
    with attached.at(LogContext(100.0, 0)):
        attached.log_console("said", "stdout")
    attached.flush()
    assert [each.text.strip() for each in stored().output] == ["said"]


def test_the_last_lines_arrive_before_the_end(attached, stored, server):
    server.fail(OUTPUT, status(500), times=2)
    with attached.at(LogContext(100.0, 0)):
        attached.log_metrics({"loss": 0.5}, step=1)
        attached.log_console("said", "stdout")
        attached.flush()
        with pytest.raises(TrackerUnavailableError):
            attached.finalize("success")
        until(lambda: stored().state == "running")  # the heartbeat reports it
        attached.finalize("success")
    assert ([each.text.strip() for each in stored().output], stored().state) == (["said"], "finished")


def test_an_incomplete_artifact_is_continued(server, here, tmp_path):
    for name in "abc":
        (tmp_path / "shards" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "shards" / name).write_text(name)
    run = rankzero.start(dir=tmp_path / "runs", project="p", delivery="off")
    run.log_checkpoint(tmp_path / "shards", aliases=["best"])
    run.finish()
    server.fail("fileName=shards%2Fb", dropped, times=4)  # after three the logger is replaced
    deliver(run.dir)
    (key,) = server.store.experiments
    (version,) = server.artifact(f"model-{key}").versions
    assert (version.state, len(version.assets)) == ("CLOSED", 3)


def test_a_page_without_a_content_type_is_not_success(server, here, tmp_path):
    server.fail("batch/logger/experiment/metric", status(200, "<html>Sign in</html>"), times=1)
    deliver(run_dir := journal_of_rows(tmp_path, {"loss": 0.5}))
    assert points_in(server.experiment(run_dir.name)) == points_logged(run_dir)

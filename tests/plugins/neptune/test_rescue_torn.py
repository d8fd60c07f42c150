"""Import torn, damaged and incomplete logs of a Neptune 1.x client; they are copies of real ones."""

import json
import os
import shutil

import pytest
from plugins.neptune import rescue_samples as samples

from rankzero.cli import app as cli
from rankzero.reader.run_data import read_run

LOSS = [(step, value) for step, _, value in samples.LOSS]


@pytest.fixture
def log(left_offline, tmp_path):
    """A copy of the directory of the run below ``.neptune``, which tests damage."""
    shutil.copytree(left_offline / "offline" / ".neptune", tmp_path / "project" / ".neptune")
    (directory,) = (tmp_path / "project" / ".neptune" / "offline").iterdir()
    return directory


@pytest.fixture
def take(tmp_path, capsys):
    def take(*options):
        capsys.readouterr()
        status = cli.main(["import", "neptune", str(tmp_path / "project"), "--dir", str(tmp_path / "runs"), *options])
        out, err = capsys.readouterr()
        (run_dir,) = (tmp_path / "runs").glob("*/*")
        return status, read_run(run_dir), [line for line in err.splitlines() if "left out" in line], out

    return take


def losses(run):
    series = run.metrics["training/loss"]
    return list(zip(series.step.tolist(), series.value.tolist(), strict=True))


def lines_of(log):
    return (log / "data-1.log").read_bytes().splitlines(keepends=True)


def number_of(lines, part):
    return next(number for number, line in enumerate(lines) if part in line)


@pytest.mark.parametrize("cut", [1, 30, 100])
def test_an_incomplete_last_line_is_reported(log, take, cut):
    lines = lines_of(log)
    count = number_of(lines, b'"training", "loss"') + 8
    torn = lines[count][: -1 - cut]
    (log / "data-1.log").write_bytes(b"".join(lines[:count]) + torn)
    (log / "last_put_version").unlink()
    status, run, said, _ = take()
    assert status == 1
    assert losses(run) == LOSS[: len(losses(run))]
    assert 4 < len(losses(run)) < len(LOSS)
    assert [line.partition("left out: ")[2] for line in said] == [
        f"data-1.log, line {count + 1}: the process died while it wrote this line"
    ]


def test_a_last_line_without_newline_is_imported(log, take):
    lines = lines_of(log)
    count = number_of(lines, b'"training", "loss"') + 1
    (log / "data-1.log").write_bytes(b"".join(lines[:count]).rstrip(b"\n"))
    (log / "last_put_version").unlink()
    status, run, said, _ = take()
    assert (status, losses(run), said) == (0, LOSS[:1], [])


def test_operations_that_did_not_reach_the_disk_are_reported(log, take):
    (log / "last_put_version").write_text(str(len(lines_of(log)) + 5))
    status, run, said, _ = take()
    assert (status, losses(run)) == (1, LOSS)
    first, last = len(lines_of(log)) + 1, len(lines_of(log)) + 5
    assert said == [
        f"brave try: left out: the operations {first} to {last}: they had not reached the disk when the process died"
    ]


@pytest.mark.parametrize("damage", [b"{]garbage\xff\xfe", b"\0" * 500, b'{"obj": {"type"', b"17"])
def test_a_damaged_line_in_the_middle_is_reported(log, take, damage):
    lines = lines_of(log)
    count = number_of(lines, b'"training", "loss"')
    lines[count] = damage + b"\n"
    (log / "data-1.log").write_bytes(b"".join(lines))
    status, run, said, _ = take()
    assert (status, losses(run)) == (1, LOSS[1:])
    assert said == [f"brave try: left out: data-1.log, line {count + 1}: the line is damaged"]


def test_damaged_lines_far_apart_are_numbered(log, take):
    lines = lines_of(log)
    point = lines[number_of(lines, b'"training", "loss"')]
    lines += [point] * 6000  # more than one read returns
    numbers = [len(lines) - 5900, len(lines) - 5800, len(lines) - 2000, len(lines) - 1]
    for number in numbers:
        lines[number] = b"damage\n"
    (log / "data-1.log").write_bytes(b"".join(lines))
    _, _, said, _ = take()
    assert [line.partition("line ")[2].partition(":")[0] for line in said] == [str(number + 1) for number in numbers]


def test_a_record_behind_an_incomplete_line_is_imported(log, take):
    lines = lines_of(log)
    count = number_of(lines, b'"training", "loss"')
    lines[count] = lines[count][:40]  # and no newline
    (log / "data-1.log").write_bytes(b"".join(lines))
    status, run, said, _ = take()
    assert (status, losses(run)) == (1, LOSS[1:])
    assert said == [f"brave try: left out: data-1.log, line {count + 1}: the line is damaged"]


def test_unknown_operation_is_named(log, take):
    with open(log / "data-1.log", "a") as file:
        file.write(json.dumps({"obj": {"type": "PaintIt", "path": ["wall", "red"]}, "version": 9999, "at": 1.0}) + "\n")
    status, run, said, _ = take()
    assert (status, losses(run)) == (1, LOSS)
    assert len(said) == 1
    assert "left out: wall/red: data-1.log, line" in said[0]
    assert "the operation PaintIt is unknown" in said[0]


def test_nan_that_older_clients_wrote_is_kept(log, take):
    with open(log / "data-1.log", "a") as file:
        values = [{"value": float("nan"), "step": 1, "ts": 1.0}, {"value": float("-inf"), "step": 2, "ts": 2.0}]
        file.write(
            json.dumps(
                {"obj": {"type": "LogFloats", "path": ["odd"], "values": values}, "version": len(lines_of(log)) + 1}
            )
            + "\n"
        )
    status, run, _, _ = take()
    assert (status, repr(run.metrics["odd"].value.tolist())) == (0, "[nan, -inf]")


def test_a_time_that_is_not_finite_is_damage(log, take):
    with open(log / "data-1.log", "a") as file:
        for step, time in ((float("nan"), 1.0), (1, float("inf"))):
            operation = {"type": "LogFloats", "path": ["odd"], "values": [{"value": 1.0, "step": step, "ts": time}]}
            file.write(json.dumps({"obj": operation, "version": len(lines_of(log)) + 1}) + "\n")
    status, run, said, _ = take()
    assert (status, "odd" in run.metrics, len(said)) == (1, False, 2)


def test_a_pipe_is_not_read(log, take):
    os.mkfifo(log / "pipe")
    with open(log / "data-1.log", "a") as file:
        upload = {"type": "UploadFile", "path": ["f"], "ext": "", "file_path": str(log / "pipe")}
        file.write(json.dumps({"obj": upload, "version": len(lines_of(log)) + 1}) + "\n")
    status, _, said, _ = take()
    assert (status, said) == (1, [f"brave try: left out: f: {log / 'pipe'}: it is not a regular file"])


@pytest.mark.parametrize("name", ["data-99999.log", "metadata.json", "last_put_version"])
@pytest.mark.parametrize("kind", ["pipe", "endless"])
def test_pipes_and_endless_files_are_not_read(log, take, name, kind):
    (log / name).unlink(missing_ok=True)
    os.mkfifo(log / name) if kind == "pipe" else (log / name).symlink_to("/dev/zero")
    _, run, _, _ = take()
    assert len(losses(run)) > 0


@pytest.mark.parametrize(
    ("field", "path"),
    [("tmp_file_name", "/etc/hostname"), ("tmp_file_name", "../metadata.json"), ("file_path", "a\0b")],
)
def test_an_invalid_path_does_not_affect_others(log, take, field, path):
    with open(log / "data-1.log", "a") as file:
        upload = {"type": "UploadFile", "path": ["f"], "ext": "", field: path}
        file.write(json.dumps({"obj": upload, "version": len(lines_of(log)) + 1}) + "\n")
    status, run, said, _ = take()
    assert (status, len(said)) == (1, 1)
    assert "left out: f" in said[0]
    assert len(losses(run)) > 0


@pytest.mark.parametrize("content", [None, "", "{torn", "[]"])
def test_missing_metadata(log, take, content):
    (log / "metadata.json").unlink()
    if content is not None:
        (log / "metadata.json").write_text(content)
    status, run, said, _ = take()
    assert (status, losses(run)) == (1, LOSS)
    assert run.info.id == log.name.split("__")[1].replace("-", "")
    assert said == [f"brave try: left out: {log / 'metadata.json'}: it is missing or cannot be read"]


def test_missing_upload(log, take):
    upload = next(path for path in (log / "upload_path").iterdir() if path.name.startswith("readme"))
    upload.unlink()
    status, run, said, _ = take()
    assert (status, "readme" in {each.name for each in run.artifacts}) == (1, False)
    assert said == [f"brave try: left out: readme: {upload}: No such file or directory"]


def test_a_log_whose_first_files_were_deleted(log, take):
    lines = lines_of(log)
    start = number_of(lines, b'"training", "loss"')
    for first, part in ((start + 10, lines[start + 9 : start + 200]), (start + 201, lines[start + 200 :])):
        (log / f"data-{first}.log").write_bytes(b"".join(part))
    (log / "data-1.log").unlink()
    status, run, said, _ = take()
    assert status == 1
    assert losses(run) == LOSS[-len(losses(run)) :]
    assert [each.data[0][0] for each in run.texts["notes"]] == [text for *_, text in samples.NOTES]
    assert [line.partition("left out: ")[2] for line in said] == [
        f"the operations 1 to {start + 9}: the client deleted them when Neptune had them"
    ]


def test_empty_log(log, take):
    (log / "data-1.log").write_bytes(b"")
    (log / "last_put_version").unlink()
    status, run, said, _ = take()
    assert (status, said, len(run.metrics), run.info.name) == (0, [], 0, log.name.split("__")[1])


def test_source_that_grows_is_imported_in_parts(log, take):
    lines = lines_of(log)
    (log / "last_put_version").unlink()
    (log / "last_ack_version").unlink()
    name = number_of(lines, b'"training", "loss"')
    for end in (name + 3, name + 10, name + 30):
        (log / "data-1.log").write_bytes(b"".join(lines[:end]))
        status, run, _, out = take()
        assert status == 0
        assert losses(run) == LOSS[: len(losses(run))]
    assert "imported what is new" in out
    (log / "data-1.log").write_bytes(b"".join(lines[: name + 30]))
    assert "nothing is new" in take()[3]


def test_a_deletion_of_imported_data_is_refused(log, take):
    take()
    with open(log / "data-1.log", "a") as file:
        erase = {"type": "DeleteAttribute", "path": ["training", "loss"]}
        file.write(json.dumps({"obj": erase, "version": 9999, "at": 1.0}) + "\n")
    (log / "last_put_version").unlink()
    status, run, _, _ = take()
    assert (status, losses(run)) == (1, LOSS)


def test_an_older_directory_layout_is_imported(left_offline, tmp_path):
    (directory,) = (left_offline / "offline" / ".neptune" / "offline").iterdir()
    older = tmp_path / ".neptune" / "async" / "run__11111111-2222-3333-4444-555555555555" / "exec-1700000000.0-of-run"
    shutil.copytree(directory, older)
    (older / "metadata.json").unlink()
    assert cli.main(["import", "neptune", str(tmp_path), "--dir", str(tmp_path / "runs")]) == 1
    assert (tmp_path / "runs" / "neptune" / "11111111222233334444555555555555" / "journal.jsonl").exists()

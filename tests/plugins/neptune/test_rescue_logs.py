"""Import logs of a Neptune 1.x client: cases that the samples of the real client do not contain."""

import json
import shutil
import tracemalloc

import pytest
from plugins.neptune.rescue_logs import RUN, operation, piece, value, write_log

from rankzero.cli import app as cli
from rankzero.importers.console_lines import ConsoleLines
from rankzero.reader.run_data import read_run

T = 1_700_000_000.0


@pytest.fixture
def take(tmp_path, capsys):
    """Import ``tmp_path/project``; returns the status, the run if there is one, and the output."""

    def take(*options):
        capsys.readouterr()
        status = cli.main(["import", "neptune", str(tmp_path / "project"), "--dir", str(tmp_path / "runs"), *options])
        out, err = capsys.readouterr()
        found = list((tmp_path / "runs").rglob("journal.jsonl"))
        return status, read_run(found[0]) if found else None, out + err

    return take


def points(run, name):
    series = run.metrics[name]
    return list(zip(series.step.tolist(), series.value.tolist(), strict=True))


def losses(steps, first=1, process_began=T):
    return [value("loss", step / 3, first + index, process_began + step, step) for index, step in enumerate(steps)]


# Growth


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([piece(f"line {number}\n", number, T + number, "notes") for number in range(1, 701)], 700),
        ([piece(text, number, T + number) for number, text in enumerate(["x", "\n", "y", "z\n", "end"], 1)], 3),
        ([piece(f"\r{step}%" + "\n" * (step == 7), step, T + step, "runtime/stderr") for step in range(1, 12)], None),
        (
            [
                value("loss", 1.0, 1, T), piece("x", 2, T), value("loss", 2.0, 3, T + 1), piece("\n", 4, T + 1),
                *(piece("note", number, T + number, "notes") for number in range(5, 120)),
                operation("AssignString", "sys/name", 120, T + 200, value="named later"),
                operation("AssignString", "sys/description", 121, T + 200, value="said later"),
                value("loss", 3.0, 122, T + 201),
            ],
            None,
        ),
    ],
    ids=["texts", "prints", "progress", "mixed"],
)  # fmt: skip
def test_a_source_that_grows_is_imported_without_loss_or_duplicates(take, tmp_path, lines, expected):
    for end in sorted({*range(1, min(len(lines), 12)), *range(12, len(lines), 97), 103, 118, len(lines)}):
        write_log(tmp_path / "project", lines[:end])
        status, run, said = take()
        assert status == 0, said
        assert "nothing is new" in take()[2]
    texts = [row[-1] for text in run.texts.get("notes", ()) for row in text.data]
    assert texts == [line["obj"]["values"][0]["value"] for line in lines if line["obj"]["path"] == ["notes"]]
    printed = [line for each in run.console for line in each.text.split("\n")]
    if expected == 3:
        assert printed == ["x", "y", "z", "end"]  # "yz" was imported in two parts
    numbers = [line["obj"]["values"][0]["value"] for line in lines if line["obj"]["path"] == ["loss"]]
    if numbers:
        assert [number for _, number in points(run, "loss")] == numbers


# Prints


def test_a_progress_bar_without_newlines_needs_little_memory():
    printed = ConsoleLines()
    tracemalloc.start()
    for number in range(20_000):
        assert printed.add("stderr", f"\rEpoch 0: {number:6}/20000 [00:12<00:34, 12.3it/s]", T) is None
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [each.text for each in printed.partial()] == ["Epoch 0:  19999/20000 [00:12<00:34, 12.3it/s]"]
    assert peak < 100_000  # bytes: a piece is not joined with all previous pieces


def test_newlines_of_windows_are_newlines(take, tmp_path):
    pieces = ["one\r", "\ntwo\r\n", "10%\r20%", "\r", "30%\r", "\n", "last\r"]
    write_log(tmp_path / "project", [piece(text, number, T + number) for number, text in enumerate(pieces, 1)])
    _, run, _ = take()
    assert "\n".join(each.text for each in run.console).split("\n") == ["one", "two", "30%", "last"]


# What is missing


def test_operations_that_are_missing_in_the_middle_are_named(take, tmp_path):
    lines = losses(range(1, 10))
    write_log(tmp_path / "project", [*lines[:3], *lines[4:]])
    status, run, said = take()
    assert (status, len(points(run, "loss"))) == (1, 8)
    assert "left out: the operation 4: they are missing" in said


def test_a_file_that_is_missing_in_the_middle_is_named(take, tmp_path):
    write_log(tmp_path / "project", losses(range(1, 4)))
    write_log(tmp_path / "project", losses(range(50, 60), first=50), first=50)
    status, _, said = take()
    assert (status, "left out: the operations 4 to 49: they are missing" in said) == (1, True)
    assert said.count("left out") == 1


def test_nothing_is_missing_in_a_whole_log_of_two_files(take, tmp_path):
    write_log(tmp_path / "project", losses(range(1, 50)))
    write_log(tmp_path / "project", losses(range(50, 60), first=50), first=50)
    assert take()[0] == 0


# One bad value


def test_an_invalid_value_does_not_affect_others(take, tmp_path):
    content = "aGVsbG8="
    write_log(
        tmp_path / "project",
        [
            operation("AssignDatetime", "far", 1, T, value=10**18),
            operation("AssignDatetime", "early", 2, T, value=-(10**18)),
            operation("UploadFileContent", "odd/ext", 3, T, ext="../../x/y", file_content=content),
            operation("UploadFileContent", "long", 4, T, ext="x" * 300, file_content=content),
            operation("UploadFile", "nul", 5, T, ext="", file_path="/tmp/a\0b"),
            operation("UploadFileSet", "nuls", 6, T, file_globs=["/tmp/a\0b*", "/tmp/a\0b"], reset=True),
            operation("LogImages", "dot", 7, T, values=[{"value": {"data": "é"}, "ts": T, "step": 1}]),
            value("loss", 0.5, 8, T, 3),
            value("huge", 0.25, 9, T, 1e300),
            value("late", 0.5, 10, 1e300, 1),
        ],
    )
    status, run, said = take()
    assert (status, points(run, "loss")) == (1, [(3, 0.5)]), said
    assert run.metrics["huge"].value.tolist() == [0.25]
    assert sorted(each.name for each in run.artifacts) == ["long", "odd/ext"]
    for name in ("far", "early", "nul", "nuls", "dot"):
        assert f"left out: {name}: " in said
    assert "left out: late: data-1.log, line 10: the operation LogFloats is invalid" in said
    assert all(path.is_relative_to(run.dir / "media") for path in run.dir.rglob("*") if path.suffix == ".y")


# Several processes


def test_processes_that_overlap_in_time_are_merged(take, tmp_path):
    write_log(tmp_path / "project", losses(range(0, 20, 2)), "1__aaaaaaaa")
    write_log(tmp_path / "project", losses(range(1, 20, 2)), "2__bbbbbbbb", created=T + 0.5)
    status, run, _ = take()
    assert status == 0
    assert [step for step, _ in points(run, "loss")] == list(range(20))


def test_data_that_a_later_process_deleted_is_left_out(take, tmp_path):
    first = [
        value("loss", 1.0, 1, T + 1, 1),
        value("acc", 1.0, 2, T + 2, 1),
        value("kept", 1.0, 3, T + 3, 1),
        operation("AssignInt", "n", 4, T + 4, value=1),
    ]
    second = [
        operation("DeleteAttribute", "loss", 1, T + 11),
        operation("ClearFloatLog", "acc", 2, T + 12),
        operation("DeleteAttribute", "n", 3, T + 13),
        value("acc", 2.0, 4, T + 14, 2),
    ]
    write_log(tmp_path / "project", first, "1__aaaaaaaa")
    write_log(tmp_path / "project", second, "2__bbbbbbbb", created=T + 10)
    _, run, _ = take()
    assert {name: points(run, name) for name in run.metrics} == {"acc": [(2, 2.0)], "kept": [(1, 1.0)]}
    assert run.params == {}


def test_data_logged_after_a_deletion_is_imported(take, tmp_path):
    write_log(tmp_path / "project", [operation("DeleteAttribute", "loss", 9, T + 1)], "1__aaaaaaaa", first=9)
    write_log(tmp_path / "project", losses([5]), "2__bbbbbbbb", created=T + 2)
    assert points(take()[1], "loss") == [(5, 5 / 3)]


# Copies


@pytest.mark.parametrize("cut", [0, 3])
def test_a_copy_of_a_project_is_imported_once(take, tmp_path, cut):
    lines = losses(range(10))
    write_log(tmp_path / "project" / "a", lines[: 10 - cut])
    write_log(tmp_path / "project" / "b", lines)
    status, run, said = take()
    assert (status, [step for step, _ in points(run, "loss")]) == (0, list(range(10)))
    original, copy = ("b", "a") if cut else ("a", "b")
    name = f".neptune/offline/run__{RUN}__25359__da7zqj19"
    project = tmp_path / "project"
    assert f"{project / copy / name}: skipped: it is a copy of {project / original / name}\n" in said


def test_a_copy_with_other_data_is_named_and_not_imported(take, tmp_path):
    lines = losses(range(10))
    write_log(tmp_path / "project" / "a", [*lines[:5], value("other", 1.0, 6, T, 1)])
    write_log(tmp_path / "project" / "b", lines)
    status, run, said = take()
    assert (status, sorted(run.metrics), len(points(run, "loss"))) == (1, ["loss"], 10)
    assert "has the same name and is larger, but has other data" in said


# Where to look


def test_logs_beside_a_neptune_directory_are_found(take, tmp_path):
    write_log(tmp_path / "project", losses([1]))
    elsewhere = write_log(tmp_path / "other", losses([2]), "9__zzzzzzzz")
    shutil.move(elsewhere, tmp_path / "project" / "backup of the cluster")
    assert [step for step, _ in points(take()[1], "loss")] == [1, 2]


def test_links_are_followed_once(take, tmp_path):
    write_log(tmp_path / "scratch", losses([1]))
    (tmp_path / "project").mkdir()
    for name in ("one", "two"):
        (tmp_path / "project" / name).symlink_to(tmp_path / "scratch")
    (tmp_path / "scratch" / "back").symlink_to(tmp_path / "project")
    status, run, said = take()
    assert (status, points(run, "loss"), "skipped" in said) == (0, [(1, 1 / 3)], False)


def test_unreadable_files_are_named_and_do_not_affect_others(take, tmp_path, monkeypatch):
    import os
    import pathlib

    write_log(tmp_path / "project", losses([1]))
    (tmp_path / "project" / "closed").mkdir()
    (tmp_path / "project" / "secret.sqlite3").write_bytes(b"SQLite format 3\0")
    (tmp_path / "project" / "secret.parquet").write_bytes(b"PAR1")
    monkeypatch.setattr(os, "scandir", refusing(os.scandir, "closed"))
    monkeypatch.setattr("builtins.open", refusing(open, "secret"))
    status, run, said = take()
    assert (status, points(run, "loss")) == (1, [(1, 1 / 3)])
    for name in ("closed", "secret.sqlite3", "secret.parquet"):
        where = pathlib.Path(tmp_path / "project" / name)
        assert f"{where}: not imported: it cannot be read: Permission denied\n" in said


def refusing(function, part):
    """Return ``function`` for a user who may not read paths with ``part`` in them; root may read everything."""

    def refuse(path=".", *arguments, **options):
        if isinstance(path, str | bytes) or hasattr(path, "__fspath__"):
            import os

            if part in os.fsdecode(path):
                raise PermissionError(13, "Permission denied", os.fspath(path))
        return function(path, *arguments, **options)

    return refuse


def test_a_log_that_cannot_be_read_is_named(take, tmp_path, monkeypatch):
    import os

    write_log(tmp_path / "project", losses([1]))
    write_log(tmp_path / "project", losses([2], first=2), first=2)
    monkeypatch.setattr(os, "open", refusing(os.open, "data-2.log"))
    status, run, said = take()
    assert (status, points(run, "loss")) == (1, [(1, 1 / 3)])
    assert "left out: data-2.log: it cannot be read: Permission denied" in said


# Only what is unsynced


def test_unsynced_only_leaves_out_acknowledged_operations(take, tmp_path):
    log = write_log(tmp_path / "project", losses(range(10, 20), first=10), first=10, mode="async")
    (log / "last_ack_version").write_text("14")
    (log / "last_put_version").write_text("19")
    status, run, said = take("-o", "unsynced_only=true")
    assert (status, [step for step, _ in points(run, "loss")]) == (0, [15, 16, 17, 18, 19]), said
    status, _, said = take("-o", "unsynced_only=false")
    assert (status, "was not changed" in said) == (1, True)


def test_a_run_without_unsynced_data_is_skipped(take, tmp_path):
    log = write_log(tmp_path / "project", losses(range(1, 5)), mode="async")
    (log / "last_ack_version").write_text("4")
    status, run, said = take("-o", "unsynced_only=true")
    assert (status, run) == (0, None)
    assert f"{log}: skipped: Neptune has all of its data" in said
    assert take()[0] == 0


# Times


def test_a_run_without_metadata_starts_with_its_first_value(take, tmp_path):
    lines = [{**line, "at": None} for line in losses([5, 6])]
    log = write_log(tmp_path / "project", [operation("AssignInt", "n", 1, None, value=3), *lines], created=None)
    for line in lines:
        line["version"] += 1
    text = "".join(json.dumps(line) + "\n" for line in [operation("AssignInt", "n", 1, None, value=3), *lines])
    (log / "data-1.log").write_text(text)
    _, run, _ = take()
    assert run.started == T + 5
    (log / "data-1.log").touch()
    assert "nothing is new" in take()[2]


# Limits


def test_a_run_of_many_processes_needs_few_open_files(take, tmp_path, few_files):
    for number in range(300):
        write_log(tmp_path / "project", losses([number]), f"{number}__aaaaaaaa")
    assert take()[0] == 0

"""A run's event file: torn, damaged or on a full disk, it contains each journal line once, and is readable."""

from pathlib import Path

import numpy as np
import pytest
from servers.event_files import accumulated, events, scalars

from rankzero.errors import TrackerUnavailableError
from rankzero.events.run_info import LogContext, MetricsRow, RunInfo
from rankzero.testing.full_disk import full_disk
from rankzero_tensorboard import TensorBoardLogger
from rankzero_tensorboard.event_file import EventFile, record

ROWS = 4
PICTURES = [np.full((3, 3, 3), shade, np.uint8) for shade in (0, 200)]


@pytest.fixture
def run(tmp_path):
    return RunInfo("r1", "first", "digits", str(tmp_path), started=1.7e9)


def attached(run):
    logger = TensorBoardLogger()
    logger.attach(run)
    return logger


def deliver(run):
    """Deliver like a courier: read the watermark, write the rest, flush. Return the watermark."""
    logger = attached(run)
    watermark = logger.watermark()
    rows = [
        MetricsRow({"loss": line / 2, "acc": line / 4}, line, LogContext(1.7e9 + line, line)) for line in range(ROWS)
    ]
    logger.log_metrics_batch(rows[watermark:])
    if watermark <= ROWS:
        with logger.at(LogContext(1.7e9 + ROWS, ROWS)):
            logger.log_image("pictures", PICTURES, ROWS, caption=["dark", "bright"])
    logger.flush()
    logger.close()
    return watermark


def event_file(run):
    return next(Path(attached(run).log_dir).glob("*.values"))


def test_several_metrics_of_a_row_share_a_record(run):
    deliver(run)
    header, *rows, pictures = events(event_file(run).parent)
    assert header.file_version == "brain.Event:2"
    assert [[value.tag for value in row.summary.value] for row in rows] == [["loss", "acc"]] * ROWS
    assert [value.tag for value in pictures.summary.value] == ["pictures/0", "pictures/1", "pictures/caption"]


def test_times_are_those_of_the_events(run):
    deliver(run)
    assert [event.wall_time for event in events(event_file(run).parent)] == [1.7e9, *(1.7e9 + n for n in range(5))]


def test_a_courier_continues_where_the_last_one_stopped(run):
    assert [deliver(run), deliver(run)] == [0, ROWS + 1]
    assert len(events(event_file(run).parent)) == ROWS + 2


def test_lines_that_are_in_the_file_are_skipped(run):
    deliver(run)
    before = event_file(run).read_bytes()
    logger = attached(run)
    logger.log_metrics_batch([MetricsRow({"loss": 9.0}, 9, LogContext(1.7e9, line)) for line in range(ROWS + 1)])
    logger.close()
    assert event_file(run).read_bytes() == before


def test_a_file_torn_at_any_byte_is_completed(run):
    """A courier that is killed while writing leaves any part of a record."""
    deliver(run)
    path = event_file(run)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        watermark = deliver(run)
        assert path.read_bytes() == whole, f"torn at byte {size}, continued from line {watermark}"


def test_a_file_is_written_again_from_a_damaged_record_on(run):
    deliver(run)
    path = event_file(run)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
        deliver(run)
        assert path.read_bytes() == whole, f"damaged at byte {at}"


def test_zeros_at_the_end_are_removed(run):
    """After a power failure a file may be longer than its data."""
    deliver(run)
    path = event_file(run)
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(5000))
    deliver(run)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("room", [0, 1, 100, 200])
def test_disk_full_in_the_middle_of_a_write(run, room):
    logger = attached(run)
    start = logger.watermark()
    path = event_file(run)
    size = path.stat().st_size
    rows = [
        MetricsRow({"loss": line / 2, "acc": line / 4}, line, LogContext(1.7e9 + line, line)) for line in range(ROWS)
    ]
    logger.log_metrics_batch(rows)
    with full_disk(size + room), pytest.raises(TrackerUnavailableError, match="cannot be written"):
        logger.flush()
    assert path.stat().st_size == size, "the written part is removed"
    logger.log_metrics_batch(rows)  # a courier delivers them again
    logger.flush()
    logger.close()
    assert start == 0
    assert scalars(path.parent)["loss"] == [(line, line / 2) for line in range(ROWS)]


def test_a_partial_write_that_cannot_be_undone_is_removed_later(run, monkeypatch):
    logger = attached(run)
    size = logger.watermark() or event_file(run).stat().st_size
    row = MetricsRow({"loss": 0.5}, 0, LogContext(1.7e9, 0))
    logger.log_metrics_batch([row])
    with full_disk(size + 20), monkeypatch.context() as patch:
        patch.setattr("os.ftruncate", fail)
        with pytest.raises(TrackerUnavailableError):
            logger.flush()
    assert event_file(run).stat().st_size == size + 20
    logger.log_metrics_batch([row])
    logger.close()
    assert scalars(event_file(run).parent) == {"loss": [(0, 0.5)]}


def fail(*args):
    raise OSError("the disk is broken")


def test_a_closed_file_refuses_writes(tmp_path):
    """Its file descriptor may be reused for another file."""
    file = EventFile(tmp_path / "closed")
    file.close()
    file.close()
    with (tmp_path / "other").open("wb"), pytest.raises(OSError, match="descriptor"):
        file.append(b"x")
    assert (tmp_path / "other").read_bytes() == b""


def test_readers_skip_the_mark(run):
    """The mark is an unknown field; all known fields are complete."""
    deliver(run)
    event = events(event_file(run).parent)[1]
    assert event.SerializeToString().endswith(b"\xf9\x7f" + (1).to_bytes(8, "little"))
    event.DiscardUnknownFields()
    values = [(each.tag, each.simple_value) for each in event.summary.value]
    assert (event.step, event.wall_time, values) == (0, 1.7e9, [("loss", 0.0), ("acc", 0.0)])


def test_records_are_those_of_tensorboards_writer(tmp_path):
    from tensorboard.summary.writer.record_writer import RecordWriter

    for data in (b"", b"a", bytes(range(256)) * 50):
        with (tmp_path / "file").open("wb") as file:
            RecordWriter(file).write(data)
        assert record(data) == (tmp_path / "file").read_bytes()


def test_runs_with_similar_ids_do_not_share_a_directory(tmp_path):
    ids = ["20261120213045" + tail * 9 for tail in ("ab", "cd")] + ["1-experiment", "2-experiment"]
    runs = [RunInfo(each, "same name", "digits", str(tmp_path)) for each in ids]
    directories = {attached(run).log_dir for run in runs}
    assert len(directories) == 4
    assert all(Path(each).name.startswith("same-name-") for each in directories)


def test_the_reader_shows_pictures_of_one_key(run):
    deliver(run)
    assert accumulated(event_file(run).parent).Tags()["images"] == ["pictures/0", "pictures/1"]

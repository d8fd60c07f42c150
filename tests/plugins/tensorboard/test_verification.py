"""``rankzero sync --verify`` reads metrics back from event files."""

from pathlib import Path

from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

from rankzero_tensorboard.event_file import record


def values(path, tag):
    """Return the records with a metric, as TensorBoard reads them."""
    records = LegacyEventFileLoader(str(path)).Load()
    return [each for each in records if any(value.tag == tag for value in each.summary.value)]


def test_differences_are_found_and_nothing_is_changed(verifying):
    verifying.deliver("tensorboard", "save_dir=logs", "prefix=try")
    (path,) = Path("logs").rglob("*.values")
    before = path.read_bytes()
    rows = values(path, "try-loss")
    seventh, third = rows[7].SerializeToString(), rows[3].SerializeToString()
    for row, value in ((rows[3], 0.25), (rows[7], None)):
        (number,) = (each for each in row.summary.value if each.tag == "try-loss")
        if value is None:
            row.summary.value.remove(number)
        else:
            number.simple_value = value
    changed = before.replace(record(third), record(rows[3].SerializeToString()))
    changed = changed.replace(record(seventh), record(rows[7].SerializeToString()))
    del rows[0].summary.value[1:]
    changed += record(rows[0].SerializeToString())
    path.write_bytes(changed)
    verifying.expect_differences()
    assert path.read_bytes() == changed


def test_a_torn_file_is_not_repaired(verifying):
    verifying.deliver("tensorboard", "save_dir=logs")
    (path,) = Path("logs").rglob("*.values")
    path.write_bytes(torn := path.read_bytes()[:-5])
    status, _, err = verifying.verify()
    assert (status, path.read_bytes()) == (1, torn)
    assert "  late: 1 of 1 missing (step 10)\n" in err

"""The status of a run, from the end of its journal."""

import pytest

from rankzero.events.run_info import RunInfo
from rankzero.events.structs import Finish, Start, Tags, encode
from rankzero.rundir.finding import run_status
from rankzero.rundir.layout import JOURNAL


@pytest.mark.parametrize(
    ("later", "status"),
    [
        ([Tags(3.0, ["x" * 300_000])], "success"),
        ([Tags(3.0, ["x" * 300_000]), Start(4.0, RunInfo("a1", "", "", ""), resumed=True)], "crashed"),
    ],
)
def test_the_end_of_a_run_is_found_before_long_lines(tmp_path, later, status):
    events = [Start(1.0, RunInfo("a1", "name", "project", str(tmp_path))), Finish(2.0, "success"), *later]
    (tmp_path / JOURNAL).write_bytes(b"".join(map(encode, events)))
    assert run_status(tmp_path) == status

"""What a run has lost holds nothing else up: Neptune is told of the rest, and the reject list names each file."""

from plugins.missing_files import check_without_files
from plugins.neptune.delivered import points_stored

from rankzero_neptune import NeptuneLogger


def test_files_that_are_gone_hold_nothing_up(here, server, tmp_path):
    run = check_without_files("neptune", NeptuneLogger, tmp_path)
    assert [each[1] for each in points_stored(server, run.name)] == [0.5]

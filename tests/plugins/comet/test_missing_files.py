"""What a run has lost holds nothing else up: Comet is told of the rest, and the reject list names each file."""

from plugins.missing_files import check_without_files

from rankzero_comet import CometLogger


def test_files_that_are_gone_hold_nothing_up(here, server, tmp_path):
    run = check_without_files("comet", CometLogger, tmp_path)
    assert [(each.name, each.value) for each in server.experiment(run.name).metrics] == [("loss", 0.5)]

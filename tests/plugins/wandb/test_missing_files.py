"""What a run has lost holds nothing else up: W&B is told of the rest, and the reject list names each file."""

import pytest
from plugins.missing_files import check_without_files
from plugins.wandb.delivered import rows

from rankzero_wandb import WandbLogger
from rankzero_wandb.failures import translated


def test_files_that_are_gone_hold_nothing_up(here, server, tmp_path):
    run = check_without_files("wandb", WandbLogger, tmp_path)
    assert [row["loss"] for row in rows(server.run(run.name), "loss")] == [0.5]


def test_a_file_that_is_gone_is_not_taken_for_a_server_that_is(tmp_path):
    with pytest.raises(FileNotFoundError), translated("W&B has not taken an artifact"):
        (tmp_path / "gone").read_bytes()

"""A file that is missing holds nothing else up: the rest is delivered, and the reject list names each file."""

from plugins.missing_files import check_without_files
from plugins.wandb.delivered import rows

from rankzero_wandb import WandbLogger


def test_files_that_are_gone_hold_nothing_up(here, server, tmp_path):
    run = check_without_files("wandb", WandbLogger, tmp_path)
    assert [row["loss"] for row in rows(server.run(run.name), "loss")] == [0.5]

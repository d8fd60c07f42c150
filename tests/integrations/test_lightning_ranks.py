"""Lightning starts the ranks itself: all of them have the same run, and none waits."""

import pytest
from recorded import events_in
from servers.lightning_scripts import run_script

import rankzero
from rankzero.events.structs import Checkpoint

pytest.importorskip("lightning")


def fit(directory, *arguments):
    """Run the script; return what rank 0 and rank 1 noted."""
    done = run_script("fit.py", directory, directory, "--devices", "2", *arguments)
    assert done.returncode == 0, done.stderr
    return [(directory / f"rank-{rank}.txt").read_text().splitlines() for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "ddp_spawn", "ddp_fork"])
def test_two_ranks_and_a_run(tmp_path, strategy):
    ours, other = fit(tmp_path, "--strategy", strategy, "--logger", "both")
    assert ours == other
    (run_dir,) = (tmp_path / "runs" / "p").iterdir()
    assert ours[1:3] == [run_dir.name, str(run_dir)]
    assert str(run_dir) in ours[3]

    data = rankzero.read_run(run_dir)
    assert data.status == "success"
    assert list(data.metrics["train/loss"].step) == list(range(6))  # each rank has half of the batches
    assert list(data.metrics["val/score"].value) == [0.5, 0.75, 0.25]
    saved = events_in(run_dir, Checkpoint)
    assert len(saved) == 4  # the best and the last, after the first and the third epoch
    assert saved[-1].find(run_dir)
    assert (run_dir / "metrics.csv").read_text().count("\n") == (
        tmp_path / "csv" / "n" / "version_0" / "metrics.csv"
    ).read_text().count("\n")
    assert sorted(each.name for each in tmp_path.iterdir() if not each.name.startswith((".", "tmp", "rank-"))) == [
        "csv", "runs",
    ]  # fmt: skip

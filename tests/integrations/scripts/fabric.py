"""Two ranks that Fabric starts log to a run."""

import sys
from pathlib import Path

from lightning.fabric import Fabric

import rankzero

if __name__ == "__main__":
    directory = Path(sys.argv[1])
    run = rankzero.start(dir=directory / "runs")
    fabric = Fabric(loggers=run, accelerator="cpu", devices=2, strategy="ddp")
    fabric.launch()
    for step in range(3):
        fabric.log("rank", fabric.global_rank, step=step)
    (directory / f"rank-{fabric.global_rank}.txt").write_text(fabric.logger.id)
    fabric.barrier()
    run.finish()

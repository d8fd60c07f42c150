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
    fabric.barrier()  # from now on rank zero says nothing until the others have come as far
    for step in range(3):
        fabric.log("rank", fabric.global_rank, step=step)
    known = (fabric.logger.id, fabric.logger.name, str(fabric.logger.dir))
    (directory / f"rank-{fabric.global_rank}.txt").write_text("\n".join(known))
    fabric.barrier()
    run.finish()

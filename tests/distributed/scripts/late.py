"""A custom launcher: the rank is put into the environment after the import of rankzero, or after the start of a run."""

import os
import sys
import time

from ranks import report

import rankzero

rank, moment = sys.argv[1], sys.argv[2]
if moment == "after the import":
    os.environ["RANK"] = rank
run = rankzero.start(delivery="off", run_id=None if moment == "after the import" else f"of-process-{rank}")
run.log_metrics({"loss": 1.0}, 0)
os.environ["RANK"] = rank
time.sleep(1.1)  # the rank is looked at once a second
for step in range(1, 5):
    run.log_metrics({"loss": 1.0}, step)
report(int(rank), experiment=type(run.experiment).__name__)
run.finish()

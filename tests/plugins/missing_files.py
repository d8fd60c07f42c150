"""A run whose files were deleted before they were delivered."""

import json
import shutil

import numpy as np
from waiting import A_WHILE

import rankzero
from rankzero.delivery.courier import Courier
from rankzero.rundir.positions import reject_list


class EagerCourier(Courier):
    """Tries again at once."""

    def _sleep(self, seconds):
        pass


def check_without_files(key, make_logger, directory):
    """Log something of each kind and a metric, delete the files, deliver what is left; return the run's directory.

    Args:
        key: the logger's name.
        make_logger: makes it.
        directory: where to log.
    """
    run = rankzero.start(dir=directory / "runs", project="p", delivery="off")
    (directory / "data.bin").write_bytes(b"data")
    run.log_image("picture", [np.zeros((4, 4, 3), np.uint8)], step=0)
    run.log_table("table", columns=["a"], data=[[1]], step=0)
    run.log_artifact(directory / "data.bin")
    run.log_metrics({"loss": 0.5}, 1)
    run.finish()
    gone = {str(path) for path in run.dir.glob("media/*/*")}
    shutil.rmtree(run.dir / "media")
    EagerCourier(run.dir, key, make_logger, follow=False, grace_period=A_WHILE).run()
    reasons = [json.loads(line)["reason"] for line in reject_list(run.dir, key).read_text().splitlines()]
    assert {path for path in gone if any(path in reason for reason in reasons)} == gone
    assert len(reasons) == len(gone) == 3
    return run.dir

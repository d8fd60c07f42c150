"""The mock of W&B's server: faults, and missing files. The tests of `WandbLogger` test the rest."""

import json

import wandb
from plugins.wandb.arrived import arrived

from rankzero.testing.faults import status


def log_table(**options):
    with wandb.init(project="p", id="r", **options) as run:
        run.log({"table": wandb.Table(columns=["a"], data=[[1]]), "n": 1})


def test_a_fault_affects_only_its_requests(server, here):
    for name in ("UpsertBucket", "PUT /artifact-file", "PUT /run-file"):
        server.fail(name, status(500), times=1)
    log_table()
    assert server.run("r").media("table")[0].value["nrows"] == 1
    files = server.artifact("run-r-table", "p").files
    assert json.loads(files["table.table.json"])["data"] == [[1]]
    assert server.run("r").state == "finished"


def test_media_without_files_did_not_arrive(server, here):
    server.fail("PUT /run-file/tester/p/r/media", status(403))
    log_table()
    tracked = arrived(server.run("r"), server)
    assert (list(tracked.metrics), tracked.items) == (["n"], {})


def test_a_running_run_has_no_status(server, here):
    log_table(settings=wandb.Settings(x_update_finish_state=False))
    assert (server.run("r").state, arrived(server.run("r"), server).status) == ("running", None)

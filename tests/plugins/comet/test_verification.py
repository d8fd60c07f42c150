"""``rankzero sync --verify`` reads metrics back from Comet."""

from plugins.verifying import RUN_ID

import rankzero
from rankzero_comet import server as comet


def test_differences_are_found_and_nothing_is_changed(server, here, verifying):
    assert f" at {server.url}: no difference" in verifying.deliver("comet", "prefix=try")
    stored = server.experiment(RUN_ID)
    (first, third, seventh) = [each for each in stored.metrics if each.name == "try_loss" and each.step in (0, 3, 7)]
    stored.metrics.remove(seventh)
    stored.metrics[stored.metrics.index(third)] = third._replace(value=0.25, sent=0.25)
    stored.metrics.append(first)
    received = len(server.requests)
    verifying.expect_differences()
    asked = [request.name for request in server.requests[received:]]
    assert asked
    assert [name for name in asked if not name.startswith("GET ")] == []


def test_a_metric_of_which_comet_may_list_a_sample_is_not_verified(server, here, verifying, monkeypatch):
    verifying.deliver("comet")
    monkeypatch.setattr(comet, "_MAX_LISTED", 10)
    status, _, err = verifying.verify()
    assert status == 1
    assert "cannot be verified: Comet lists 10 points of" in err


def test_a_name_that_is_too_long_for_comet(server, here, verifying, swallowed_warnings):
    verifying.deliver("comet", more=["x" * 300])
    swallowed_warnings.clear()


def test_epochs_of_other_metrics_are_not_compared(server, here, verifying):
    verifying.deliver("comet")
    with rankzero.start(dir="runs", run_id=RUN_ID, project="p", delivery="off") as run:
        run.log_metrics({"loss": 0.5, "epoch": 3}, step=12)
    status, out, err = verifying.verify()
    assert (status, err) == (0, "")
    assert "comet: the tracker has epoch in a form that cannot be compared\ncomet: verified 33 values" in out

"""The tracking store for MLflow responds like MLflow's own file store."""

import math
import re

import pytest
from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelOutput,
    LoggedModelParameter,
    LoggedModelStatus,
    LoggedModelTag,
    Metric,
    Param,
    RunTag,
    ViewType,
)
from mlflow.exceptions import MlflowException

from rankzero.compat.mlflow import tracking_store

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


class Answers:
    """Calls a client, and keeps its responses, with ids numbered by first appearance and without times."""

    def __init__(self, client):
        self.client = client
        self.store = client._tracking_client.store
        self.kept = []
        self._ids = {}

    def keep(self, value):
        self.kept.append(self.plain(value))

    def error(self, call, *arguments, **named):
        with pytest.raises(MlflowException) as caught:
            call(*arguments, **named)
        self.kept.append(caught.value.error_code)

    def plain(self, value):
        if hasattr(value, "token"):
            return [self.plain(each) for each in value]
        if isinstance(value, str):
            return re.sub(r"m-[0-9a-f]{32}|[0-9a-f]{32}|[0-9]{16,18}", self._named, value)
        if isinstance(value, float) and math.isnan(value):
            return "NaN"
        if isinstance(value, dict):
            return {key: self.plain(each) for key, each in value.items() if key not in _OWN}
        if isinstance(value, list | tuple | set):
            plain = [self.plain(each) for each in value]
            return sorted(plain) if isinstance(value, set) else plain
        if hasattr(value, "to_dictionary"):
            return self.plain(value.to_dictionary())
        if hasattr(value, "__iter__"):
            return self.plain(dict(value))
        return value

    def _named(self, match):
        return self._ids.setdefault(match[0], f"<{len(self._ids)}>")


_OWN = {"artifact_uri", "artifact_location", "creation_time", "last_update_time", "creation_timestamp"} | {
    "last_updated_timestamp",
    "user_id",
}


def experiments(a):
    client = a.client
    first = client.create_experiment("first", tags={"team": "vision"})
    nested = client.create_experiment("group/second: b")
    a.keep([client.get_experiment(each) for each in ("0", first, nested)])
    a.keep(client.get_experiment_by_name("group/second: b"))
    a.keep(client.get_experiment_by_name("none"))
    a.keep({each.name for each in client.search_experiments()})
    a.keep(client.search_experiments(filter_string="tags.team = 'vision'"))
    a.keep([each.name for each in client.search_experiments(order_by=["name DESC"])])
    page = client.search_experiments(max_results=2, order_by=["name"])
    a.keep([each.name for each in page])
    a.keep([each.name for each in client.search_experiments(order_by=["name"], page_token=page.token)])
    client.set_experiment_tag(first, "stage", "1")
    client.rename_experiment(first, "renamed")
    a.keep(client.get_experiment(first))
    again = client.create_experiment("first")
    a.keep(client.get_experiment(again).name)
    a.keep(again != first)
    a.error(client.create_experiment, "first")
    a.error(client.create_experiment, "")
    a.error(client.rename_experiment, nested, "first")
    run = client.create_run(nested, 1, run_name="r")
    client.delete_experiment(nested)
    a.keep(client.get_experiment(nested))
    a.keep(client.get_run(run.info.run_id).info.lifecycle_stage)
    a.keep({each.name for each in client.search_experiments()})
    a.keep({each.name for each in client.search_experiments(view_type=ViewType.DELETED_ONLY)})
    a.error(client.create_run, nested)
    a.error(client.create_experiment, "group/second: b")
    a.error(client.delete_experiment, nested)
    client.restore_experiment(nested)
    a.keep(client.get_experiment(nested).lifecycle_stage)
    a.keep(client.get_run(run.info.run_id).info.lifecycle_stage)
    a.error(client.restore_experiment, nested)
    a.error(client.get_experiment, "12345")
    a.error(client.delete_experiment, "0")


def runs(a):
    client = a.client
    run = client.create_run("0", start_time=1_700_000_000_123, tags={"team": "vision"}, run_name="one")
    run_id = run.info.run_id
    a.keep(run)
    a.keep(client.create_run("0", tags={"mlflow.runName": "two", "mlflow.user": "me"}, start_time=5))
    a.error(client.create_run, "0", tags={"mlflow.runName": "two"}, run_name="three")
    a.error(client.create_run, "777")
    client.update_run(run_id, name="renamed")
    a.keep(client.get_run(run_id))
    client.set_tag(run_id, "mlflow.runName", "by tag")
    a.keep(client.get_run(run_id))
    client.set_tag(run_id, "empty", "")
    client.set_tag(run_id, "team", 7)
    client.delete_tag(run_id, "empty")
    a.error(client.delete_tag, run_id, "empty")
    a.keep(client.get_run(run_id))
    client.set_terminated(run_id, "KILLED", end_time=1_700_000_009_001)
    client.update_run(run_id, name="renamed again")  # the end stays
    client.delete_tag(run_id, "mlflow.runName")  # and so does the name
    a.keep(client.get_run(run_id))
    client.update_run(run_id, status="RUNNING")
    a.keep(client.get_run(run_id).info.status)
    client.set_terminated(run_id, end_time=1_700_000_009_002)
    a.keep(client.get_run(run_id).info)
    client.log_metric(run_id, "late", 1, timestamp=1, step=1)
    a.keep(client.get_run(run_id))
    client.delete_run(run_id)
    a.keep(client.get_run(run_id))
    a.error(client.log_metric, run_id, "loss", 1.0)
    a.error(client.log_param, run_id, "lr", 1.0)
    a.error(client.set_tag, run_id, "a", "b")
    a.error(client.set_terminated, run_id)
    client.restore_run(run_id)
    a.keep(client.get_run(run_id).info.lifecycle_stage)
    a.error(client.get_run, "0" * 32)
    a.error(client.get_run, "no id: /")
    a.error(client.log_metric, "0" * 32, "loss", 1.0)


def metrics(a):
    client = a.client
    run_id = client.create_run("0", start_time=1, run_name="r").info.run_id
    for step, value in enumerate([1.0, 0.5, 0.25]):
        client.log_metric(run_id, "loss", value, timestamp=1_700_000_000_001 + step, step=step)
    client.log_metric(run_id, "loss", 9.0, timestamp=1_700_000_000_009, step=1)  # an earlier step
    client.log_metric(run_id, "loss", 0.75, timestamp=1_700_000_000_000, step=2)  # an earlier time
    client.log_metric(run_id, "zero", 2, timestamp=0, step=0)
    a.keep(client.get_run(run_id))  # whose newest event is from 1970
    client.log_metric(run_id, "whole", 3, timestamp=1, step=-4)
    client.log_metric(run_id, "odd name/with: spaces", math.nan, timestamp=2, step=0)
    client.log_metric(run_id, "up", math.inf, timestamp=3)
    client.log_metric(run_id, "up", -math.inf, timestamp=4)
    client.log_batch(run_id, [Metric("b", i, 10 + i // 2, i // 3) for i in range(7)] + [Metric("c", 1, 16, 2)])
    for name in ("loss", "whole", "odd name/with: spaces", "up", "b", "c", "none"):
        a.keep([dict(each) | {"run_id": None} for each in client.get_metric_history(run_id, name)])
    a.keep(client.get_run(run_id))
    page = a.store.get_metric_history(run_id, "b", max_results=3)
    a.keep([each.value for each in page])
    a.keep([each.value for each in a.store.get_metric_history(run_id, "b", max_results=9, page_token=page.token)])
    a.keep(a.store.get_metric_history_bulk_interval([run_id], "b", 3, 0, 2))
    a.error(client.log_metric, run_id, "", 1.0)
    a.error(client.log_metric, run_id, "text", "abc")
    a.error(a.store.log_batch, run_id, [Metric("m", 1, 1, 1)] * 1001, [], [])


def params(a):
    client = a.client
    run_id = client.create_run("0", start_time=1, run_name="r").info.run_id
    given = {"lr": 0.1, "tiny": 1e-05, "text": "1e-5", "zero": "007", "n": 3, "ok": True, "none": None, "empty": ""}
    given |= {"big": 10**30, "list": [1, "a"], "nan": math.nan, "a/b": {"c": 1}, "minus": "-0", "under": "1_000"}
    for key, value in given.items():
        client.log_param(run_id, key, value)
    client.log_param(run_id, "lr", 0.1)
    client.log_batch(run_id, params=[Param("batch", "1"), Param("other", " 2 ")], tags=[RunTag("t", "v")])
    a.keep(client.get_run(run_id))
    a.error(client.log_param, run_id, "lr", 0.2)
    a.error(client.log_batch, run_id, params=[Param("twice", "1"), Param("twice", "2")])
    a.error(client.log_param, run_id, "k" * 251, "v")
    client.log_param(run_id, "long", "x" * 6001)
    a.keep(client.get_run(run_id).data.params)


def search(a):
    client = a.client
    other = client.create_experiment("other")
    for index in range(6):
        tags = {"kind": "even" if index % 2 == 0 else "odd"}
        run_id = client.create_run(["0", other][index % 3 == 0], 100 + index, tags, f"run {index}").info.run_id
        client.log_metric(run_id, "loss", 1 / (index + 1), 1, 1)
        client.log_metric(run_id, "nan", math.nan if index % 2 else index, 1, 1)
        client.log_param(run_id, "lr", index / 10)
        client.log_inputs(run_id, [DatasetInput(Dataset(f"d{index % 2}", "x", "local", "here"))])
        client.set_terminated(run_id, "FAILED" if index == 4 else "FINISHED", end_time=200 - index)
        if index == 5:
            client.delete_run(run_id)
    for query in (
        "", "metrics.loss < 0.4", "params.lr = '0.2'", "tags.kind = 'even' AND metrics.loss > 0.2",
        "attributes.status = 'FAILED'", "attributes.start_time > 102", "run_name LIKE 'run %'",
        "attributes.end_time < 198", "tags.kind != 'odd'", "dataset.name = 'd1'", "params.lr ILIKE '0.%'",
    ):  # fmt: skip
        found = client.search_runs(["0", other], query, order_by=["attributes.start_time"])
        a.keep([each.info.run_name for each in found])
    for order in ("metrics.loss DESC", "params.lr", "attributes.end_time", "metrics.nan ASC", "tags.kind", "none.x"):
        if order == "none.x":
            a.error(client.search_runs, ["0", other], order_by=[order])
        else:
            found = client.search_runs(["0", other], order_by=[order, "attributes.start_time"])
            a.keep([each.info.run_name for each in found])
    for view in (ViewType.ALL, ViewType.DELETED_ONLY):
        found = client.search_runs(["0", other], run_view_type=view, order_by=["attributes.start_time"])
        a.keep([each.info.run_name for each in found])
    a.keep(len(client.search_runs(["0"])))
    a.keep(client.search_runs(["none"]))
    page = client.search_runs(["0", other], max_results=2, order_by=["attributes.start_time"])
    a.keep([each.info.run_name for each in page])
    page = client.search_runs(["0", other], max_results=2, order_by=["attributes.start_time"], page_token=page.token)
    a.keep([each.info.run_name for each in page])
    a.error(client.search_runs, ["0"], "metrics.loss <")
    a.error(client.search_runs, ["0"], max_results=10**9)


def datasets_and_models(a):
    client = a.client
    run_id = client.create_run("0", start_time=1, run_name="r").info.run_id
    data = Dataset("iris", "abc", "local", "here", "schema", "profile")
    client.log_inputs(run_id, [DatasetInput(data, [InputTag("mlflow.data.context", "train")])])
    client.log_inputs(run_id, [DatasetInput(data), DatasetInput(Dataset("wine", "d", "local", "there"))])
    model = client.create_logged_model("0", "net", run_id, {"kind": "linear"}, {"depth": "3"}, "classifier")
    a.keep(model)
    client.log_metric(run_id, "acc", 0.5, 1, 1, model_id=model.model_id, dataset_name="iris", dataset_digest="abc")
    client.log_metric(run_id, "acc", 0.7, 2, 2, model_id=model.model_id, dataset_name="iris", dataset_digest="abc")
    client.log_metric(run_id, "acc", 0.6, 2, 3, model_id=model.model_id)  # MLflow takes 0 for the steps above
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 4)])
    client.set_logged_model_tags(model.model_id, {"a": "b", "c": "d"})
    client.delete_logged_model_tag(model.model_id, "c")
    a.error(client.delete_logged_model_tag, model.model_id, "c")
    client.log_model_params(model.model_id, {"width": "4"})
    a.keep(client.finalize_logged_model(model.model_id, LoggedModelStatus.READY))
    second = a.store.create_logged_model(
        "0", "other", None, [LoggedModelTag("k", "v")], [LoggedModelParameter("p", "1")]
    )
    for query in ("", "name = 'net'", "metrics.acc > 0.65", "params.depth = '3'", "tags.k = 'v'"):
        found = client.search_logged_models(["0"], query, order_by=[{"field_name": "name"}])
        a.keep([(each.name, each.status.value, each.metrics) for each in found])
    client.delete_logged_model(second.model_id)
    a.error(client.get_logged_model, second.model_id)
    a.error(a.store.create_logged_model, "0", "bad", None, None, [LoggedModelParameter("k" * 251, "v")])
    a.error(client.get_logged_model, "m-" + "0" * 32)
    a.keep(len(client.search_logged_models(["0", "777"])))
    run = client.get_run(run_id)
    a.keep(sorted((each.dataset.name, [dict(tag) for tag in each.tags]) for each in run.inputs.dataset_inputs))
    a.keep(run.outputs)
    a.keep(sorted((each.name, each.digest, each.context or "") for each in a.store._search_datasets(["0"])))
    a.keep(client.search_traces(locations=["0"]))


@pytest.fixture(autouse=True)
def environment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RANKZERO_DELIVERY", "off")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")


@pytest.mark.parametrize("calls", [experiments, runs, metrics, params, search, datasets_and_models])
def test_answers_are_those_of_mlflow(calls, tmp_path):
    theirs, ours = Answers(MlflowClient(f"file:{tmp_path}/theirs")), Answers(MlflowClient(f"rankzero:{tmp_path}/ours"))
    calls(theirs)
    calls(ours)
    for index, (expected, given) in enumerate(zip(theirs.kept, ours.kept, strict=True)):
        assert given == expected, f"answer {index}"
    fresh = tracking_store(f"rankzero:{tmp_path}/ours")
    assert ours.plain(all_runs(fresh)) == theirs.plain(all_runs(theirs.store))


def all_runs(store):
    """Return all runs by id."""
    ids = [each.experiment_id for each in store.search_experiments(view_type=ViewType.ALL)]
    runs = [each.to_dictionary() for each in store.search_runs(ids, "", ViewType.ALL)]
    for run in runs:
        run["inputs"]["dataset_inputs"].sort(key=lambda each: each["dataset"]["name"])
    return sorted(runs, key=lambda run: (run["info"]["start_time"], run["info"]["run_name"]))

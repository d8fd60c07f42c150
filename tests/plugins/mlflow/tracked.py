"""The data of a run in MLflow as `Tracked`, read with MLflow's client."""

import json
import tempfile
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from mlflow import MlflowClient

from rankzero.testing import Tracked

STATUSES = {"FINISHED": "success", "FAILED": "failed", "KILLED": "aborted", "RUNNING": None}
FOLDERS = {
    "audio": "audio",
    "videos": "video",
    "figures": "figure",
    "pointclouds": "pointcloud",
    "histograms": "histogram",
    "graph": "graph",
}


class Held:
    """The data of a logger's run in MLflow, read on each access.

    Args:
        logger: the logger, or the URI of MLflow with ``run_id``.
        run_id: MLflow's id of the run.
    """

    def __init__(self, logger, run_id=None):
        self.client = MlflowClient(getattr(logger, "tracking_uri", logger))
        self.run_id = run_id or logger.run_id

    @property
    def info(self):
        return self.client.get_run(self.run_id).info

    @property
    def params(self):
        return self.client.get_run(self.run_id).data.params

    @property
    def tags(self):
        return self.client.get_run(self.run_id).data.tags

    @property
    def metrics(self):
        """The last value of each metric, as in MLflow's tables."""
        return self.client.get_run(self.run_id).data.metrics

    def points(self, key):
        """Return (step, value, Unix time in milliseconds) of each value of a metric."""
        return [(each.step, each.value, each.timestamp) for each in self.client.get_metric_history(self.run_id, key)]

    def files(self, folder=None):
        """Return the paths of all artifacts, or of those in a folder."""
        return sorted(files_of(self.client, self.run_id, folder))

    def read(self, path):
        """Return the bytes of an artifact."""
        with tempfile.TemporaryDirectory() as scratch:
            return Path(self.client.download_artifacts(self.run_id, path, scratch)).read_bytes()

    def read_json(self, path):
        return json.loads(self.read(path))

    def read_all(self):
        """Return path → bytes of all artifacts."""
        with tempfile.TemporaryDirectory() as scratch:
            root = Path(self.client.download_artifacts(self.run_id, "", scratch))
            return {
                path.relative_to(root).as_posix(): path.read_bytes()
                for path in sorted(root.rglob("*"))
                if path.is_file()
            }


def runs_tagged(client, run_id):
    """Return MLflow's runs of a rankzero run."""
    experiments = [each.experiment_id for each in client.search_experiments()]
    return client.search_runs(experiments, f"tags.`rankzero.run_id` = '{run_id}'")


def read_run(uri, mlflow_id, scratch):
    """Return the `Tracked` of a run; artifacts are downloaded to ``scratch``."""
    client, tracked = MlflowClient(uri), Tracked()
    run = client.get_run(mlflow_id)
    tags = run.data.tags
    names = {key.removeprefix("rankzero.name."): name for key, name in tags.items() if key.startswith("rankzero.name.")}
    for key in run.data.metrics:
        for point in client.get_metric_history(mlflow_id, key):
            tracked.add_metric(names.get(key, key), point.step, point.value, point.timestamp / 1000)
    tracked.params = {names.get(key, key): value for key, value in run.data.params.items()}
    tracked.status = STATUSES[run.info.status]
    tracked.tags = [key for key, value in tags.items() if value == "true"]
    for key, text in tags.items():
        if key.startswith("rankzero.metric."):
            tracked.add_item("define_metric", json.loads(text)["name"])
    scratch.mkdir(parents=True, exist_ok=True)
    artifacts = Path(client.download_artifacts(mlflow_id, "", str(scratch)))
    for path in sorted(each for each in artifacts.rglob("*") if each.is_file()):
        add_file(tracked, artifacts, path, tags)
    return tracked


def files_of(client, run_id, folder=None):
    for each in client.list_artifacts(run_id, folder):
        if each.is_dir:
            yield from files_of(client, run_id, each.path)
        else:
            yield each.path


def add_file(tracked, artifacts, path, tags):
    """Add a downloaded artifact; its folder determines its kind."""
    folder, *inner = path.relative_to(artifacts).parts
    key = "/".join(inner[:-1])
    if folder == "images" and "+step+" in path.name:
        if path.suffix != ".webp":
            name, _, step = inner[0].split("+")[:3]
            tracked.add_item("image", name.replace("~", "/"), int(step), path.read_bytes())
    elif folder == "checkpoints":
        if inner[-1] != "metadata.json":
            details = read_json(artifacts / folder / inner[0] / "metadata.json")
            at = path.relative_to(artifacts).as_posix()
            aliases = [tag.removeprefix("rankzero.checkpoint.") for tag, value in tags.items() if value == at]
            item = ("checkpoint", inner[-1], details["step"], path.read_bytes())
            tracked.add_item(*item, aliases=aliases, score=details["score"])
    elif folder in ("tables", "texts") and path.suffix == ".json":
        table = read_json(path)
        tracked.add_item(folder.removesuffix("s"), key, step_of(path), (table["columns"], table["data"]))
    elif folder == "texts":
        tracked.add_item("text", key, step_of(path), (["value"], [[path.read_text()]]))
    elif folder in FOLDERS:
        step = None if folder == "graph" else step_of(path)
        tracked.add_item(FOLDERS[folder], key or folder, step, path.read_bytes())
    elif folder not in ("captions", "params", "tags", "images") and not path.name.endswith(".metadata.json"):
        name = Path(folder).stem
        described = artifacts / f"{name}.metadata.json"
        details = read_json(described) if described.exists() else {}
        tracked.add_item("artifact", name, None, path.read_bytes(), aliases=details.get("aliases", ()))


def read_json(path):
    return json.loads(path.read_text())


def step_of(path):
    return int(path.name.split("-")[1])


@contextmanager
def requests_counted(kind):
    """Yield a list to which the number of ``metrics`` or ``params`` of each request is added."""
    sizes, log_batch = [], MlflowClient.log_batch

    def counting(client, run_id, **batch):
        sizes.append(len(batch.get(kind, ())))
        return log_batch(client, run_id, **batch)

    with mock.patch.object(MlflowClient, "log_batch", counting):
        yield sizes

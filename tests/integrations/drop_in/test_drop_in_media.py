"""Pictures, tables, sounds, videos and artifacts, which only Lightning's logger for W&B has."""

import numpy as np
import pytest
import torch
from integrations.drop_in.outcomes import outcome
from integrations.drop_in.page import compare

pytestmark = pytest.mark.parametrize("tracker", ["wandb"])

IMAGE = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
SOUND = np.sin(np.arange(800, dtype=np.float32))
VIDEO = np.zeros((2, 3, 4, 4), np.uint8)


def log_everything(logger, directory):
    import wandb
    from PIL import Image

    Image.fromarray(IMAGE).save(directory / "a.png")
    logger.log_image("images", [IMAGE, Image.fromarray(IMAGE), str(directory / "a.png")])
    logger.log_image("floats", [torch.rand(3, 5, 6)])
    logger.log_image("captions", [IMAGE, IMAGE], step=3, caption=["one", "two"])
    box = {"position": {"minX": 0.0, "maxX": 0.5, "minY": 0.0, "maxY": 0.5}, "class_id": 1}
    logger.log_image("boxes", [IMAGE], boxes=[{"truth": {"box_data": [box], "class_labels": {1: "cat"}}}])
    logger.log_table("table", columns=["a", "b"], data=[[1, "x"], [2.5, None]], step=4)
    logger.log_table("pictures", ["picture"], [[wandb.Image(IMAGE)]])
    logger.log_text("text", columns=["said"], data=[["hello"]])
    logger.log_audio("audio", [SOUND], sample_rate=[8000], caption=["beep"], step=5)
    logger.log_metrics({"histogram": wandb.Histogram([1, 2, 2]), "html": wandb.Html("<b>x</b>")}, 6)


def test_media(bench, tmp_path):
    found = []
    for kind in bench.each():
        torch.manual_seed(0)
        logger = bench.make(kind, "a")
        log_everything(logger, tmp_path)
        bench.end(logger)
        run = bench.server.run(logger.version)
        keys = {name for row in run.history for name in row if not name.startswith("_")} - {"trainer/global_step"}
        seen = {}
        for key in sorted(keys):
            media = run.media(key)
            seen["an image of floats" if key == "floats" else f"what arrives of {key}"] = [
                (each.value.get("_type"), each.files) for each in media
            ]
        seen["captions"] = [each.value.get("captions") for each in run.media("captions")]
        seen["steps"] = [(sorted(row), row.get("trainer/global_step")) for row in map(of_user, run.history)]
        found.append(seen)
    compare(bench.tracker, *found)


def of_user(row):
    return {name: value for name, value in row.items() if not name.startswith("_")}


BAD = {
    "images that are no list": [("log_image", IMAGE, {}), ("log_image", "a.png", {})],
    "too few captions or sample rates": [
        ("log_image", [IMAGE, IMAGE], {"caption": ["one"]}),
        ("log_audio", [SOUND, SOUND], {"sample_rate": [8000]}),
    ],
    "one value for all audios or videos": [
        ("log_audio", [SOUND], {"sample_rate": 8000}),
        ("log_video", [VIDEO], {"fps": 4}),
        ("log_image", [IMAGE], {"caption": "one"}),
    ],
    "a single audio or video": [("log_audio", SOUND, {"sample_rate": 8000}), ("log_video", VIDEO, {"fps": 4})],
    "a file that is not there": [("log_image", ["missing.png"], {})],
    "an unknown argument of a picture": [("log_image", [IMAGE], {"nonsense": [1]})],
    "a table of nothing": [("log_table", None, {})],
}


def test_bad_media(bench):
    found = []
    for kind in bench.each():
        logger = bench.make(kind, "a")
        found.append(
            {
                what: [outcome(getattr(logger, verb), "key", items, **options) for verb, items, options in calls]
                for what, calls in BAD.items()
            }
        )
    compare(bench.tracker, *found)


@pytest.mark.slow
def test_watch_and_artifacts(bench, tmp_path):
    import wandb

    (tmp_path / "data.txt").write_text("data")
    found = []
    for kind in bench.each():
        logger = bench.make(kind, "a")
        artifact = wandb.Artifact("dataset", "data")
        artifact.add_file(str(tmp_path / "data.txt"))
        logger.experiment.log_artifact(artifact).wait()
        used = logger.use_artifact("tester/p/dataset:latest", artifact_type="data")
        where = kind.download_artifact("tester/p/dataset:latest", save_dir=tmp_path / kind.__module__)
        model = torch.nn.Linear(2, 1)
        logger.watch(model, log="all", log_freq=1)
        model(torch.ones(1, 2)).sum().backward()
        logger.log_metrics({"loss": 1.0}, 1)
        logger.experiment.unwatch(model)
        bench.end(logger)
        run = bench.server.run(logger.version)
        found.append(
            {
                "an artifact that is used": (type(used).__name__, used.name, used.type),
                "an artifact that is downloaded": [path.name for path in (tmp_path / kind.__module__).iterdir()],
                "where an artifact is downloaded to": where.replace(kind.__module__, ""),
                "what is watched": sorted(name.replace("graph_1", "") for row in run.history for name in of_user(row)),
                "the model that is watched": sorted(name for name in run.summary if name.startswith("graph")),
            }
        )
    compare(bench.tracker, *found)

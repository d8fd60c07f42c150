"""Scripts that log runs offline with W&B's client, for tests of the importer; each runs in a new process."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

BEGIN = """
import math, os, time
import numpy as np
import wandb

def begin(run_id, project="digits", **options):
    settings = wandb.Settings(**{"silent": True, "x_disable_stats": True, **options.pop("settings", {})})
    return wandb.init(mode="offline", project=project, id=run_id, settings=settings, **options)

def write(name, content):
    with open(name, "w") as file:
        file.write(content)
    return name
"""

EVERYTHING = """
run = begin(
    "everyth1ng", entity="team", group="sweep", job_type="train", name="nice run", notes="why", tags=["a", "b"],
    config={"lr": 0.1, "opt": {"name": "adam", "betas": [0.9, 0.99]}},
    settings={"x_disable_stats": False, "x_stats_sampling_interval": 0.1},
)
print("hello")
print("1%\\r2%\\r100%")
run.define_metric("epoch")
run.define_metric("val/*", step_metric="epoch", summary="max,mean")
for epoch in range(3):
    run.log({"loss": 1 / (epoch + 3), "opt": {"lr": 1e-3 * epoch}, "epoch": epoch, "val/acc": epoch / 7, "flag": True,
             "odd": [math.nan, math.inf, -math.inf][epoch], "big": 2**60 + epoch, "huge": 10**40, "zero": -0.0,
             "note": f"text {epoch}", "list": [1, 2], "none": None})
run.log({"late": 1}, step=20)
run.log({"late": 2, "more": 0.1 + 0.2}, step=30)

pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
box = {"position": {"minX": 0.1, "maxX": 0.2, "minY": 0.3, "maxY": 0.4}, "class_id": 0}
video, atoms = write("video.mp4", "not really"), write("atoms.pdb", "ATOM")
lidar = {"type": "lidar/beta", "points": np.ones((2, 3)), "boxes": np.array([
    {"corners": [[0, 0, 0]] * 8, "label": "car", "color": [1, 2, 3]}])}
run.log({
    "picture": wandb.Image(pixels, caption="one", masks={"truth": {"mask_data": np.zeros((4, 4), int)}}),
    "pictures": [wandb.Image(pixels, caption="x", boxes={"found": {"box_data": [box]}}), wandb.Image(pixels)],
    "inner": {"picture": wandb.Image(pixels)},
    "sound": wandb.Audio(np.zeros(80), 8000, caption="beep"),
    "sounds": [wandb.Audio(np.zeros(80), 8000, caption="one"), wandb.Audio(np.ones(80), 8000)],
    "video": wandb.Video(video, format="mp4"),
    "page": wandb.Html("<b>bold</b>"), "pages": [wandb.Html("1"), wandb.Html("2")],
    "cloud": wandb.Object3D(np.arange(6.0).reshape(2, 3)), "scene": wandb.Object3D(lidar),
    "counts": wandb.Histogram(np_histogram=([3, 1], [0, 0.5, 2])),
    "table": wandb.Table(columns=["n", "x", "image"], data=[[1, math.nan, wandb.Image(pixels)], [2, 0.5, None]],
                         allow_mixed_types=True),
    "curve": wandb.plot.line(wandb.Table(columns=["x", "y"], data=[[1, 2]]), "x", "y"),
    "molecule": wandb.Molecule(atoms),
}, step=40)
import plotly.graph_objects
run.log({"plot": plotly.graph_objects.Figure(plotly.graph_objects.Scatter(x=[1], y=["</script>"]))}, step=41)

run.summary["best"] = 0.875
run.summary["verdict"] = "done"
run.summary["loss"] = -1
run.summary["outer"] = {"a": 1}
run.config.update({"late": 5})
run.tags = (*run.tags, "c")
artifact = wandb.Artifact("data", "dataset", metadata={"k": 1}, description="all of it")
artifact.add_file(write("a.txt", "A"))
artifact.add_file(write("b.txt", "B"), name="sub/b.txt")
artifact.add_reference("s3://bucket/c", checksum=False)
run.log_artifact(artifact, aliases=["best"])
run.save(write("saved.txt", "S"))
write("gone.txt", "G")
gone = wandb.Artifact("gone", "dataset")
gone.add_file("gone.txt", policy="immutable")
run.log_artifact(gone)
run.alert("Title", "text", level="WARN")
run.write_logs("from a logger\\n")
time.sleep(0.5)
run.finish(exit_code=3)
write("gone.txt", "changed")
"""

RESUMED = """
for part in range(2):
    with begin("resumed1", settings={"console": "off"}) as run:
        for step in range(3):
            run.log({"loss": part + step / 10, "part": part}, step=10 * part + step)
    time.sleep(1.1)  # the client names directories by the second
"""

SYNCED = """
with begin("synced12", sync_tensorboard=True) as run:
    from torch.utils.tensorboard import SummaryWriter
    with SummaryWriter("logs") as writer:
        for step in range(5):
            writer.add_scalar("loss", 1 / (step + 2), 10 * step)
"""

PLAIN = """
with begin("plainrun", settings={"console": "off"}) as run:
    for step in range(rows):
        run.log({f"metric {index}": (step + 0.1) / (index + 3) for index in range(5)})
"""


def log(directory, script, **variables):
    """Run a script in a directory, below which the client keeps all files; return the directory."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "RANKZERO_"))}
    places = {name: str(directory / "client") for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR")}
    lines = [f"{name} = {value!r}" for name, value in variables.items()]
    Path(directory).mkdir(parents=True, exist_ok=True)
    code = "\n".join([BEGIN, *lines, textwrap.dedent(script)])
    subprocess.run([sys.executable, "-c", code], cwd=directory, env={**kept, **places}, check=True)
    return directory

"""Typical scripts for wandb, run with the package and with rankzero.compat.wandb."""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import wandb
from PIL import Image

run = wandb.init(
    project="p", name="n", id="abc", group="g", job_type="train", tags=["t", "u"], notes="some notes",
    config={"lr": 0.1, "model": {"depth": 3, "sizes": [1, 2]}, "seed": None},
)  # fmt: skip
assert wandb.run is run
wandb.config.update(argparse.Namespace(epochs=3))
wandb.config.batch = 8
wandb.config["opt"] = "adam"
wandb.config.update({"lr": 0.2}, allow_val_change=True)

wandb.define_metric("epoch")
wandb.define_metric("val/*", step_metric="epoch")
wandb.define_metric("val/best", summary="max")
for step in range(3):
    wandb.log({"loss": 1 / (step + 1), "tensor": torch.tensor(2.0 + step), "np": np.float32(step), "on": step == 1})
    wandb.log({"val/best": [0.5, 0.9, 0.7][step], "epoch": step}, commit=False)
wandb.log({"x": 1.0, "nested": {"a": 1, "b": {"c": 2}}}, step=10)
wandb.log({"y": 2.0}, step=10)
wandb.log({"z": 3.0})
wandb.log({"w": 4.0}, step=20, commit=True)
wandb.log({"text": "hello", "v": 5.0})

pixels = (np.arange(72).reshape(4, 6, 3) * 3).astype(np.uint8)
picture = Image.fromarray(pixels[:, :, 0])
wandb.log({"images": [wandb.Image(pixels, caption="one"), wandb.Image(picture, caption="two")]})
wandb.log({"tensors": [wandb.Image(torch.tensor(pixels).permute(2, 0, 1))]})
masks = {"guess": {"mask_data": np.zeros((4, 6), np.uint8), "class_labels": {0: "sky"}}}
boxes = {"boxes": {"box_data": [{"position": {"minX": 0.1, "maxX": 0.5, "minY": 0.2, "maxY": 0.7}, "class_id": 0}]}}
wandb.log({"marked": [wandb.Image(pixels, masks=masks, boxes=boxes)]})
table = wandb.Table(columns=["a", "b"])
table.add_data(1, "x")
table.add_data(2, "y")
wandb.log({"table": table, "frame": wandb.Table(dataframe=pd.DataFrame({"q": [1.5, 2.5], "r": ["s", "t"]}))})
wandb.log({"counted": wandb.Histogram([1, 2, 2, 3], num_bins=4), "many": np.arange(100.0)})
wandb.log({"page": wandb.Html("<b>hi</b>", inject=False), "points": [wandb.Object3D(np.arange(12.0).reshape(4, 3))]})

wandb.run.summary["final"] = 0.93
assert wandb.summary["loss"] == 1 / 3

Path("folder").mkdir()
Path("folder/b.txt").write_text("content b")
Path("a.txt").write_text("content a")
artifact = wandb.Artifact("data", type="dataset", metadata={"rows": 2})
artifact.add_file("a.txt")
artifact.add_dir("folder", name="inner")
with artifact.new_file("new.txt") as file:
    file.write("new")
run.log_artifact(artifact, aliases=["best"])
run.log_model("a.txt", name="a-model")
wandb.alert("title", "text", level=wandb.AlertLevel.WARN)
wandb.finish()
assert wandb.run is None

"""Every verb of a `CometLogger` without a Run."""

import io
import json
import os
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from plugins.comet.direct import QUIET, params
from servers.comet_server import CometServer

from rankzero.testing.samples import GIF, wav
from rankzero_comet import CometLogger

FAINT = np.random.default_rng(1).integers(50, 101, (6, 6, 3), np.uint8)
BLACK = np.zeros((4, 4), np.uint8)
LONG = "x" * 120


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """An experiment with data of each verb."""
    directory = tmp_path_factory.mktemp("everything")
    (directory / "data.bin").write_bytes(bytes(range(256)))
    (directory / "a.gif").write_bytes(GIF)
    (directory / "a.wav").write_bytes(wav())
    (directory / "page.html").write_text("<b>Grüße</b>", encoding="utf-8")
    with CometServer() as server, pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("COMET_")]:
            patch.delenv(name)
        for name, value in {**server.environment(directory), "HOME": str(directory)}.items():
            patch.setenv(name, value)
        logger = CometLogger(**QUIET, prefix="x", name="named", tags=["option"], workspace="w")
        log_everything(logger, directory)
        read_back = Path(logger.download_checkpoint("best")).read_bytes()
        with pytest.raises(LookupError, match=r"no version of the artifact .* has the alias 'swa'"):
            logger.download_checkpoint("swa")
        logger.finalize("success")
        logger.close()
        assert server.problems == []
        yield server, server.experiment(logger.version), read_back


@pytest.fixture
def stored(everything):
    return everything[1]


def log_everything(logger, directory):
    logger.log_metrics({"loss": torch.tensor(0.5), "epoch": 2}, step=7)
    logger.log_metrics({"loss": float("nan"), "nested": {"a": True}}, step=3)
    logger.log_metrics({"phase": "warm-up"}, step=4)
    with pytest.warns(UserWarning, match="Comet accepts names of 1 to 100 characters"):
        logger.log_metrics({LONG + "a": 1, LONG + "b": 2}, step=5)
    with pytest.warns(UserWarning, match="nothing to log"):
        logger.log_metrics({"none": None}, step=5)
    with pytest.warns(UserWarning, match="Comet accepts (names|params) of"):
        logger.log_hyperparams({"net": {"sizes": (1, 2)}, "none": None, "long": "y" * 3000, LONG: 1}, {"hp": 3})
    logger.log_hyperparams(Namespace(seed=1))
    logger.log_image("im", [FAINT, BLACK], step=8, caption=["one", "two"], annotations=[[{"name": "n"}], None])
    logger.log_audio("au", [directory / "a.wav"], step=8, caption=["three"])
    logger.log_video("vi", [str(directory / "a.gif")], step=8)
    logger.log_text("note", ["value"], [["Grüße"]], step=9)
    logger.log_table("t", ["a"], [[1], [Image.fromarray(FAINT)]], step=9)
    logger.log_histogram("h", [1.0, 2.0, 2.0], step=9, bins=2)
    logger.log_artifact(directory / "data.bin", name="folder/data", metadata={"k": 1})
    logger.log_figure("page", directory / "page.html", step=9)
    for number in range(2):
        (directory / "a.ckpt").write_bytes(b"%d" % number)
        logger.log_checkpoint(directory / "a.ckpt", score=number / 2, step=number, aliases=["latest", "best"][number:])
    logger.log_graph(torch.nn.Linear(2, 3))
    logger.log_tags(["late"])
    logger.alert("Stop", "NaN", level="ERROR")


def test_metrics(stored):
    found = {(each.name, each.step, each.epoch, str(each.value)) for each in stored.metrics}
    assert found >= {("x_loss", 7, 2, "0.5"), ("x_loss", 3, 2, "nan"), ("x_nested/a", 3, 2, "1"), ("x_hp", 0, 2, "3")}
    assert len({name for name, *_ in found if name.startswith("x_xxx")}) == 2
    assert not any("none" in name or name == "epoch" for name, *_ in found)


def test_params_tags_and_the_name(stored):
    found = params(stored)
    (shortened,) = [name for name in found if name.startswith("xxx")]
    assert len(shortened) == 100
    assert found == {"net|sizes": [1, 2], "none": None, "long": "y" * 1000, "seed": 1, shortened: 1}
    assert [asset.content.decode() for asset in stored.files("params/long.txt")] == ["y" * 3000]
    assert (stored.workspace, stored.project, stored.name, stored.tags) == ("w", "p", "named", ["option", "late"])
    assert (stored.others["Created from"], stored.others["hasNestedParams"]) == ("rankzero", True)


def test_pictures_keep_their_pixels(stored):
    found = {image.name: image for image in stored.images}
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(found["im_0.png"].content))), FAINT)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(found["im_1.png"].content))), BLACK)
    assert found["im_0.png"].metadata == {"caption": "one", "annotations": [{"name": "n"}]}
    assert (found["im_1.png"].metadata, found["im_1.png"].step) == ({"caption": "two"}, 8)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(found["t_1_0.png"].content))), FAINT)


def test_files_keep_their_bytes(stored):
    found = {asset.name: asset for asset in stored.assets}
    assert (found["au.wav"].type, found["au.wav"].step, found["au.wav"].content) == ("audio", 8, wav())
    assert found["au.wav"].metadata == {"caption": "three"}
    assert (found["vi.gif"].type, found["vi.gif"].step, found["vi.gif"].content) == ("video", 8, GIF)
    assert (found["t.csv"].step, found["t.csv"].content) == (9, b"a\r\n1\r\nt_1_0.png\r\n")
    assert (found["folder/data.bin"].content, found["folder/data.bin"].metadata) == (bytes(range(256)), {"k": 1})
    assert found["page.html"].content.decode() == stored.html == "<b>Grüße</b>"
    texts = {asset.metadata["key"]: asset for asset in stored.assets if asset.type == "text-sample"}
    assert {key: (text.step, text.content.decode()) for key, text in texts.items()} == {
        "x_phase": (4, "warm-up"), "note": (9, "Grüße")
    }  # fmt: skip
    assert (found["h.json"].type, found["h.json"].step) == ("histogram3d", 9)
    assert found["h.json"].metadata["counts"] == [1, 2]


def test_checkpoints_and_the_rest(everything):
    server, stored, read_back = everything
    versions = server.artifact(f"model-{stored.key}", "w").versions
    assert [(sorted(each.aliases), each.files) for each in versions] == [
        (["latest"], {"a.ckpt": b"0"}), (["best"], {"a.ckpt": b"1"})
    ]  # fmt: skip
    assert json.loads(versions[1].metadata) == {"score": 0.5, "step": 1, "original_filename": "a.ckpt"}
    assert read_back == b"1"
    assert stored.graph == str(torch.nn.Linear(2, 3))
    assert ("Stop", "ERROR", {"text": "NaN"}) in [
        (each["title"], each["status"], each["additional_data"]) for each in stored.notifications
    ]
    assert stored.state == "finished"

"""Pictures, sounds, tables and models in TensorBoard, and warnings for what it cannot show."""

import io

import numpy as np
import pytest
from PIL import Image
from servers.event_files import accumulated, tracked
from servers.tensorboard_server import LOADERS, tensorboard
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.plugins.mesh import metadata as mesh_metadata
from tensorboard.util.tensor_util import make_ndarray

from rankzero.events.run_info import RunInfo
from rankzero.media.encoders import Histogram, encode_model
from rankzero.media.store import MediaFile
from rankzero_tensorboard import TensorBoardLogger

RUN = "lightning_logs/version_0"


def encoded(kind, size=(5, 4)):
    buffer = io.BytesIO()
    Image.new("RGB", size, (200, 10, 10)).save(buffer, kind)
    return buffer.getvalue()


def items(logger, kind):
    return tracked(logger.log_dir).items[kind]


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "bmp"])
def test_pictures_that_browsers_show_are_kept_byte_by_byte(logger, tmp_path, kind):
    path = tmp_path / f"picture.{kind}"
    path.write_bytes(encoded(kind))
    logger.log_image("val/picture", [path], step=3)
    [image] = accumulated(logger.log_dir).Images("val/picture")
    assert (image.encoded_image_string, image.width, image.height, image.step) == (path.read_bytes(), 5, 4, 3)


POINTS = np.arange(9.0).reshape(3, 3)
COLOURS = np.array([[0, 128, 255], [1, 2, 3], [9, 9, 9]])


@pytest.mark.parametrize(
    ("further", "colours"),
    [(COLOURS, COLOURS.tolist()), ([[0], [1], [0]], [[31, 119, 180], [255, 127, 14], [31, 119, 180]])],
    ids=["with colours", "with categories"],
)
def test_points_in_space_are_a_mesh(logger, further, colours):
    logger.log_pointcloud("scan", np.hstack([POINTS, further]), step=3, caption=["a room"])
    read = accumulated(logger.log_dir)
    [vertices], [shown] = read.Tensors("scan_VERTEX"), read.Tensors("scan_COLOR")
    assert make_ndarray(vertices.tensor_proto).tolist() == [POINTS.tolist()]
    assert make_ndarray(shown.tensor_proto).tolist() == [colours]
    content = read.SummaryMetadata("scan_VERTEX").plugin_data.content
    assert mesh_metadata.parse_plugin_metadata(content).components == 0b1010  # vertices and colours
    assert (vertices.step, shown.step, len(read.Tensors("scan/caption"))) == (3, 3, 1)


def test_a_file_without_points_causes_a_warning(logger, tmp_path):
    (tmp_path / "scan.npy").write_bytes(b"not an array")
    with pytest.warns(UserWarning, match="TensorBoard cannot show the pointcloud 'scan'"):
        logger.log_pointcloud("scan", tmp_path / "scan.npy", step=3)


@pytest.mark.parametrize("kind", ["webp", "tiff"])
def test_others_become_png(logger, kind):
    logger.log_image("picture", [encoded(kind)], step=3)
    [image] = accumulated(logger.log_dir).Images("picture")
    shown = Image.open(io.BytesIO(image.encoded_image_string))
    assert (shown.format, shown.size) == ("PNG", (5, 4))


def test_an_unsupported_item_is_warned_of_once_and_the_rest_is_shown(logger, tmp_path):
    path = tmp_path / "video.mp4"
    path.write_bytes(b"\0\0\0\x18ftypmp42")
    video = np.zeros((2, 4, 4, 3), np.uint8)
    with pytest.warns(UserWarning, match=r"cannot show the video 'clips'; it stays where it is: .*video\.mp4"):
        logger.log_video("clips", [path, video], step=0)
    logger.log_video("clips", [path], step=1)
    assert [item.content[:4] for item in items(logger, "video")] == [b"GIF8"]


def test_captions_are_a_text_beside_the_pictures(logger):
    logger.log_image("pair", [encoded("png")] * 2, step=1, caption=["before", "af|ter"])
    logger.log_image("one", [encoded("png")], step=1, caption=["alone"])
    logger.log_audio("sound", [np.zeros(80)], step=1, caption=["silence"], sample_rate=8000)
    read = accumulated(logger.log_dir)
    assert read.Tags()["images"] == ["pair/0", "pair/1", "one"]
    texts = {tag: make_ndarray(read.Tensors(tag)[0].tensor_proto).tolist() for tag in read.Tags()["tensors"]}
    assert texts["pair/caption"] == [b"before", b"af|ter"]
    assert texts["one/caption"] == b"alone"
    assert texts["sound/caption"] == b"silence"


def test_a_single_picture_or_sound_need_not_be_in_a_list(logger):
    logger.log_image("picture", np.zeros((3, 4, 3), np.uint8), 0, caption="black")
    logger.log_audio("sound", np.zeros(80), 0, sample_rate=8000)
    logger.close()
    assert [item.key for item in items(logger, "image")] == ["picture"]
    assert [item.key for item in items(logger, "audio")] == ["sound"]


def test_tables_of_odd_shapes(logger, tmp_path):
    ragged = [[1, None, {"a": 1}], ["a|b\n**c**"], [MediaFile(str(tmp_path / "x.png")), True]]
    logger.log_table("ragged", ["n", "text"], ragged, step=0)
    logger.log_table("empty", ["n"], [], step=0)
    found = {item.key: item.content for item in items(logger, "table")}
    rows = [["1", "", '{"a": 1}'], ["a|b\n**c**", "", ""], [str(tmp_path / "x.png"), "True", ""]]
    assert found == {"ragged": (["n", "text", "column 2"], rows), "empty": (["n"], [])}


def test_histograms_keep_their_bins(logger):
    with pytest.warns(UserWarning, match="3 values of 'w' are NaN or infinite"):
        logger.log_histogram("w", Histogram([0, 2, 0, 1], [-1.0, 0.0, 0.1, 0.5, 2.0], non_finite=3), step=1)
    [bins] = [item.content for item in items(logger, "histogram")]
    assert bins.tolist() == [[-1.0, 0.0, 0.0], [0.0, 0.1, 2.0], [0.1, 0.5, 0.0], [0.5, 2.0, 1.0]]


def test_a_model_is_its_modules(tmp_path):
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Sequential(torch.nn.ReLU()))
    path = tmp_path / "model.json"
    path.write_bytes(encode_model(model)[0])
    logger = TensorBoardLogger()
    logger.attach(RunInfo("r1", "first", "digits", str(tmp_path)))
    logger.log_graph(MediaFile(str(path)))
    logger.close()
    nodes = {node.name: (node.op, node.attr["parameters"].i) for node in read_graph(logger).node}
    assert nodes == {
        "Sequential": ("Sequential", 0),
        "Sequential/0": ("Linear", 9),
        "Sequential/1": ("Sequential", 0),
        "Sequential/1/0": ("ReLU", 0),
    }


def test_a_model_without_modules_is_drawn(logger, tmp_path):
    path = tmp_path / "model.json"
    path.write_bytes(encode_model("Model(a/b)")[0])
    logger.log_graph(MediaFile(str(path)))
    assert [node.name for node in read_graph(logger).node] == ["Model(a_b)"]


def read_graph(logger):
    graph = accumulated(logger.log_dir).Graph()
    assert isinstance(graph, GraphDef)
    return graph


@pytest.mark.parametrize("loader", LOADERS)
def test_tensorboard_shows_it(tmp_path, loader):
    logger = TensorBoardLogger(tmp_path)
    logger.log_image("picture", [encoded("png")], step=3)
    logger.log_audio("sound", [np.sin(np.arange(80))], step=3, sample_rate=8000)
    logger.log_table("table", ["n", "text"], [[1, "a|b"]], step=3)
    logger.log_histogram("w", Histogram([1, 2], [0.0, 1.0, 2.0]), step=3)
    logger.log_metrics({"loss": 0.5}, step=3)
    path = tmp_path / "model.json"
    path.write_bytes(encode_model("Model")[0])
    logger.log_graph(MediaFile(str(path)))
    logger.close()
    with tensorboard(tmp_path, loader) as server:
        server.until(lambda server: server.scalars(RUN, "loss") == [(3, 0.5)])
        [image] = server.ask("plugin/images/images", run=RUN, tag="picture", sample=0)
        assert server.ask("plugin/images/individualImage?" + image["query"]) == encoded("png")
        [sound] = server.ask("plugin/audio/audio", run=RUN, tag="sound", sample=0)
        assert sound["contentType"] == "audio/wav"
        assert server.ask("plugin/audio/individualAudio?" + sound["query"]).startswith(b"RIFF")
        [text] = server.ask("plugin/text/text", run=RUN, tag="table")
        assert "<td><p><strong>text</strong></p></td>" in text["text"]
        assert "<td><p>a|b</p></td>" in text["text"]
        [[_, step, bins]] = server.ask("plugin/histograms/histograms", run=RUN, tag="w")
        assert (step, bins) == (3, [[0.0, 1.0, 1.0], [1.0, 2.0, 2.0]])
        assert b'name: "Model"' in server.ask("plugin/graphs/graph", run=RUN, conceptual="false")

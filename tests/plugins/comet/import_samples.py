"""Write files with Comet's client: the functions here run in another process, in an empty directory.

What they log stands in the constants, so that tests compare what was imported with it.
"""

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from waiting import A_WHILE

TESTS = Path(__file__).parents[2]
KEY, KILLED = "everything" * 4, "killed" * 6
ENVIRONMENT = {"COMET_DISABLE_ANNOUNCEMENT": "1", "COMET_ERROR_TRACKING_ENABLE": "0", "COMET_LOGGING_CONSOLE": "ERROR"}
PARAMS = {"lr": 0.1 + 0.2, "layers": 3, "deep": {"amp": True, "sizes": [1, 2]}, "worst": math.inf, "none": None}
LOSS = [1 / (step + 3) for step in range(40)]
ODD = [math.nan, math.inf, -math.inf, 2.0**70]
LATER = 100
"""The first step of the continued experiment."""
POINTS = [[0.0, 1.0, 2.0], [3.0, 4.0, 5.5]]
WEIGHTS = bytes(range(256)) * 40
VALUES = [-2.5, 0.0, 0.25, 1e-3, 7.0, 7.0]


def leave(directory: Path, *functions: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Call functions of this module in a process in ``directory``."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("COMET_")}
    added = {
        **ENVIRONMENT,
        "PYTHONPATH": str(TESTS),
        "COMET_CONFIG": str(directory),
        "MPLBACKEND": "agg",
        **environment,
    }
    command = [sys.executable, "-m", "plugins.comet.import_samples", *functions]
    return subprocess.run(
        command, cwd=directory, env=inherited | added, capture_output=True, text=True, timeout=A_WHILE
    )


def start(**options):
    import comet_ml

    given = {"project_name": "digits", "workspace": "lab", "offline_directory": "archives", "display_summary_level": 0}
    quiet = dict.fromkeys(("log_env_gpu", "log_env_cpu", "log_env_disk"), False)
    kind = options.pop("kind", comet_ml.OfflineExperiment)
    return kind(**{**given, **quiet, **options})


def everything() -> None:
    """Log data of each kind."""
    import matplotlib.pyplot as plt
    import numpy as np
    from PIL import Image

    experiment = start(experiment_key=KEY)
    print("one\ntwo", end="")
    print(" and more\r\nlast")
    print("careful", file=sys.stderr)
    experiment.set_name("brave try")
    experiment.add_tags(["kept", "later"])
    experiment.log_parameters(PARAMS)
    for step, loss in enumerate(LOSS):
        experiment.log_metrics({"loss": loss, "half": loss / 2}, step=step, epoch=step // 10)
    for step, value in enumerate(ODD):
        experiment.log_metric("odd", value, step=step)
    experiment.log_metric("between", 5.0, step=7.5)
    experiment.log_metric("sys.gpu.0.load", 0.5, step=8)
    experiment.log_metric("text", "words", step=8)
    with experiment.validate():
        experiment.log_metric("acc", 0.75, step=9)
    experiment.log_other("reason", "why not")
    experiment.log_text("a sample", step=3, metadata={"by": "me"})
    experiment.log_html("<b>page</b>")
    picture = Image.new("RGB", (4, 4), (10, 20, 30))
    boxes = [{"name": "found", "data": [{"boxes": [[1, 1, 2, 2]], "label": "cat", "score": 0.5}]}]
    experiment.log_image(picture, name="picture", step=4, annotations=boxes)
    experiment.log_image(picture, name="described", step=4, metadata={"camera": "left"})
    figure, axes = plt.subplots(figsize=(1, 1))
    axes.plot(LOSS)
    experiment.log_figure("curve of loss", figure, step=5)
    experiment.log_audio(np.sin(np.arange(800)), sample_rate=8000, file_name="beep.wav", step=6)
    Path("clip.mp4").write_bytes(b"no real video")
    experiment.log_video("clip.mp4", name="clip.mp4", step=6)
    experiment.log_histogram_3d(VALUES, name="weights", step=7)
    experiment.log_table("scores.csv", [[1, 2.5, "x"], [3, "007", ""]], headers=["a", "b", "c"])
    experiment.log_table("bare.tsv", [[1, 2], [3, 4]])
    experiment.log_curve("roc", [0, 0.5, 1], [0, 0.9, 1], step=8)
    experiment.log_confusion_matrix([0, 1, 1], [0, 1, 0], labels=["cat", "dog"], step=8)
    experiment.log_points_3d("cloud", points=POINTS, step=9)
    Path("model").mkdir()
    Path("model", "weights.bin").write_bytes(WEIGHTS)
    experiment.log_asset("model/weights.bin", "deep/weights.bin", step=10, metadata={"quality": 1})
    experiment.log_asset_data({"x": 1}, name="data.json", step=10)
    experiment.log_model("net", "model", metadata={"acc": 0.75})
    experiment.register_model("net", version="1.2.3")
    experiment.log_remote_asset("s3://bucket/far", "far.bin", step=11)
    experiment.set_model_graph("Linear(2, 3)")
    experiment.end()


def later() -> None:
    """Continue the same experiment in another archive."""
    import comet_ml

    experiment = start(kind=comet_ml.ExistingOfflineExperiment, experiment_key=KEY)
    experiment.add_tag("resumed")
    experiment.log_parameter("lr", 0.5)
    experiment.log_metric("loss", 0.25, step=LATER)
    experiment.end()


def crashed() -> None:
    """Raise an exception, which Comet's client reports."""
    experiment = start(experiment_key="crashed" * 5)
    experiment.log_metric("loss", 1.0, step=0)
    raise ValueError("too bad")


def killed() -> None:
    """Log a few values, and get killed before the archive is written."""
    experiment = start(experiment_key=KILLED, log_code=False, auto_output_logging=False)
    experiment.set_name("killed")
    experiment.log_asset_data("kept", name="note.txt")
    for step, loss in enumerate(LOSS):
        experiment.log_metric("loss", loss, step=step)
    messages = Path(experiment.tmpdir, "messages.json")
    deadline = time.monotonic() + A_WHILE
    while f'"metricValue":{LOSS[-1]!r}' not in messages.read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)


def ours() -> None:
    """Log with rankzero's logger, which writes an archive of Comet's client."""
    import numpy as np
    from plugins.comet.direct import QUIET

    from rankzero_comet import CometLogger

    logger = CometLogger(**{**QUIET, "online": False, "offline_directory": "archives", "experiment_key": "ours" * 8})
    logger.log_hyperparams({"net": {"depth": 3}})
    logger.log_metrics({"loss": 0.5}, step=3)
    logger.log_image("picture", [np.full((4, 4, 3), 50, np.uint8)], step=1, caption=["small"])
    logger.log_histogram("weights", np.array(VALUES), step=1)
    logger.log_table("table", columns=["a"], data=[[1]], step=2)
    logger.log_text("note", columns=["text"], data=[["said"]], step=2)
    logger.finalize("success")
    logger.close()


if __name__ == "__main__":
    for function in sys.argv[1:]:
        globals()[function]()

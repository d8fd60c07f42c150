"""Write files with the real clients: the functions here run in another process, each in an empty directory.

``leave(directory, "offline")`` calls ``offline`` in ``directory/offline``. The constants have the logged
values, to which tests compare the imported ones.
"""

import base64
import io
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from waiting import A_WHILE

TESTS = Path(__file__).parents[2]
DAY = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
PARAMS = {"lr": 0.1 + 0.2, "layers": 3, "deep": {"amp": True, "name": "späte"}, "big": 2**31 - 1, "since": DAY}
LOSS = [(step, 1_700_000_000.25 + step, 1 / (step + 3)) for step in range(40)]
ACC = [(0, 1_700_000_000.25, 0.1), (1, 1_700_000_001.25, 0.2)]
"""They have the steps and times of the loss."""
WITHOUT_STEP = [5.0, 6.0, 7.0]
HALVES = [(0.5, 1.0), (1.0, 2.0), (1.5, 3.0)]
NOTES = [(1, 1_700_000_001.5, "first"), (2, 1_700_000_002.5, "söcond")]
LINES = [f"line {number}" for number in range(250)]
PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAQAAAAECAIAAAAmkwkpAAAAEklEQVR4nGNk+M8AB0wMDMRwADLSAQfvSjVpAAAAAElFTkSuQmCC"
)
CHECKPOINT = bytes(range(256)) * 40
SYNCED, UNSYNCED = range(50), range(50, 400)
"""Steps that are logged before and after the server is stopped."""


def leave(directory: Path, *functions: str, **environment: str) -> subprocess.Popen[str]:
    """Start a process that calls functions of this module, each in a folder of its name below ``directory``."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NEPTUNE_")}
    return subprocess.Popen(
        [sys.executable, "-m", "plugins.neptune.rescue_samples", *functions],
        cwd=directory,
        env={**inherited, "PYTHONPATH": str(TESTS), **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def all_left(directory: Path, *functions: str) -> Path:
    """Call functions in a process, which ends; return the directory with their folders."""
    process = leave(directory, *functions)
    out, _ = process.communicate(timeout=A_WHILE)
    assert process.returncode == 0, out
    return directory


def offline() -> None:
    """Log data of every kind with a Neptune 1.x client."""
    import neptune
    from neptune.types import File

    run = neptune.init_run(
        mode="offline", name="brave try", description="why not", tags=["kept", "taken away"],
        monitoring_namespace="monitoring/abc", capture_hardware_metrics=False, capture_stderr=False, source_files=[],
        git_ref=False,
    )  # fmt: skip
    run["params"] = PARAMS
    for step, time, value in LOSS:
        run["training/loss"].append(value, step=step, timestamp=time)
        for at, same_time, acc in ACC:
            if at == step:
                run["training/acc"].append(acc, step=at, timestamp=same_time)
    for value in WITHOUT_STEP:
        run["auto"].append(value)
    for step, value in HALVES:
        run["halves"].append(value, step=step)
    run["extended"].extend([1.5, 2.5], steps=[7, 9], timestamps=[1_700_000_007.0, 1_700_000_009.0])
    for step, time, text in NOTES:
        run["notes"].append(text, step=step, timestamp=time)
    for line in LINES:
        run["lines"].append(line)
    print("out one")
    print("10%\r20%\r30%")
    run["epoch"] = 1
    run["epoch"] = 2
    run["picture"].upload(File.from_content(PICTURE, extension="png"))
    run["pictures"].append(picture(), step=3, name="cat", description="a cat")
    Path("model.ckpt").write_bytes(CHECKPOINT)
    run["model/checkpoint"].upload("model.ckpt")
    run["readme"].upload(File.from_content("hällo", extension="txt"))
    for name in ("code/a.py", "code/sub/b.py", "code/gone.py"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(f"# {name}\n")
    run["code"].upload_files("code")
    run["code"].delete_files("gone.py")
    run["colours"].add(["red"])
    run["colours"].add(["blue"])
    run["colours"].remove("red")
    run["sys/tags"].add("late")
    run["sys/tags"].remove("taken away")
    run["erased"].append(1.0, step=1)
    del run["erased"]
    run["sys/failed"] = True
    run.stop()


def picture() -> object:
    """Return the picture as a PIL image."""
    from PIL import Image

    return Image.open(io.BytesIO(PICTURE))


def what_cannot_be_taken() -> None:
    """Log data that an offline client does not store."""
    import neptune

    run = neptune.init_run(mode="offline", **quiet())
    run["loss"].append(0.5, step=1)
    Path("data.csv").write_text("1\n")
    run["data set"].track_files("data.csv")
    Path("lost.bin").write_bytes(b"lost")
    run["lost"].upload("lost.bin")
    run.stop()
    Path("lost.bin").unlink()


def unsynced() -> None:
    """Log before and after the server is stopped, and die; a line on ``stdin`` reports the stop."""
    import neptune

    known = os.environ.get("WITH_ID")
    run = neptune.init_run(**({"with_id": known} if known else {}), **quiet())
    name = os.environ.get("METRIC", "loss")
    for step in SYNCED:
        run[name].append(step / 3, step=step, timestamp=1_700_000_000.0 + step)
    run.wait()
    print("synced", flush=True)
    sys.stdin.readline()
    for step in UNSYNCED:
        run[name].append(step / 3, step=step, timestamp=1_700_000_000.0 + step)
    os.kill(os.getpid(), signal.SIGKILL)


def quiet() -> dict[str, object]:
    """Return arguments with which a client logs nothing by itself."""
    captured = ("capture_hardware_metrics", "capture_stdout", "capture_stderr", "capture_traceback")
    return {"source_files": [], "git_ref": False, **dict.fromkeys(captured, False)}


def scale() -> None:
    """Log data of every kind with neptune-scale."""
    from neptune_scale import Run
    from neptune_scale.types import File, Histogram

    run = Run(
        project="team/digits", run_id="r-1", experiment_name="exp", mode="offline", log_directory="logs",
        enable_console_log_capture=True, source_tracking_config=None,
    )  # fmt: skip
    run.log_configs({"lr": 0.1 + 0.2, "n": 3, "amp": True, "s": "späte", "since": DAY, "deep/x": 1, "set": ["a", "b"]})
    for step, time, value in LOSS:
        at = datetime.fromtimestamp(time, UTC)
        run.log_metrics({"train/loss": value, "train/neg": -value}, step=step, timestamp=at)
    for step, value in HALVES:
        run.log_metrics({"halves": value}, step=step)
    run.log_metrics({"inf": float("inf"), "nan": float("nan")}, step=4)
    run.log_metrics({"soon": 1.0}, step=5, preview=True, preview_completion=0.5)
    for step, time, text in NOTES:
        run.log_string_series({"notes": text}, step=step, timestamp=datetime.fromtimestamp(time, UTC))
    run.log_histograms({"counts": Histogram(bin_edges=[0, 1, 3], counts=[3, 4])}, step=1)
    run.log_histograms({"densities": Histogram(bin_edges=[0, 1, 3], densities=[0.5, 0.25])}, step=1)
    run.add_tags(["kept", "taken away"])
    run.remove_tags(["taken away"])
    Path("model.ckpt").write_bytes(CHECKPOINT)
    run.assign_files({"model": "model.ckpt", "bytes": File(b"raw", mime_type="text/plain")})
    run.log_files({"pictures": File(PICTURE, mime_type="image/png")}, step=2)
    print("a line")
    run.close()


def scale_resumed() -> None:
    """Log to one run with neptune-scale in two processes that do not end the run."""
    from neptune_scale import Run

    for part in (range(10), range(10, 20)):
        run = Run(
            project="team/digits", run_id="r-2", mode="offline", log_directory="logs",
            enable_console_log_capture=False, source_tracking_config=None,
        )  # fmt: skip
        for step in part:
            run.log_metrics({"loss": step / 3}, step=step)
        run.close()


def scale_forked() -> None:
    """Fork a run of neptune-scale."""
    from neptune_scale import Run

    for run_id, fork in (("r-4", {}), ("r-5", {"fork_run_id": "r-4", "fork_step": 2})):
        run = Run(
            project="team/digits", run_id=run_id, mode="offline", log_directory="logs",
            enable_console_log_capture=False, source_tracking_config=None, **fork,
        )  # fmt: skip
        run.log_metrics({"loss": 0.5}, step=3)
        run.close()


def scale_conflicts() -> None:
    """Log a name that is a value and a namespace, and repeated values, with neptune-scale."""
    from neptune_scale import Run

    run = Run(
        project="team/digits", run_id="r-3", mode="offline", log_directory="logs",
        enable_console_log_capture=False, source_tracking_config=None,
    )  # fmt: skip
    for values in (
        {"bar/x": 1}, {"bar": 2}, {"bar.value": 3}, {"bar": 4}, {"foo": 1}, {"foo/y/z": 2}, {"foo/y": 3},
        {"k": 1}, {"k": True}, {"set": ["a", "b"]}, {"set": ["c"]},
    ):  # fmt: skip
        run.log_configs(values)
    run.close()


if __name__ == "__main__":
    for each in sys.argv[1:]:
        Path(each).mkdir(exist_ok=True)
        os.chdir(each)
        globals()[each]()
        os.chdir("..")

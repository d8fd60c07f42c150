"""System metrics: measured by a process that ends with the run, and that training does not notice."""

import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from servers.training import Training
from waiting import A_WHILE, until

import rankzero
from rankzero.capture.hardware import Hardware
from rankzero.reader.run_data import read_run
from rankzero.testing.full_disk import full_disk

MACHINE = {"cpu_percent", "memory_percent", "disk_free_gb", "network_sent_gb", "network_received_gb"}
PROCESS = {f"process/{name}" for name in ("cpu_percent", "memory_gb", "disk_read_gb", "disk_written_gb")}
OFTEN = 0.05


@pytest.fixture(autouse=True)
def as_by_default(monkeypatch):
    monkeypatch.delenv("RANKZERO_SYSTEM_METRICS")


@pytest.fixture
def training(tmp_path):
    training = Training(tmp_path)
    yield training
    training.kill()


def begin(tmp_path, **options):
    return rankzero.start([], dir=tmp_path, run_id="r1", system_metrics=OFTEN, **options)


def samples(run_dir):
    """Return the system metrics in the journal, one dict for each measurement."""
    lines = [json.loads(line) for line in (run_dir / "journal.jsonl").read_text().splitlines()]
    rows = [line for line in lines if line["type"] == "metrics" and "step" not in line]
    assert all(name.startswith("system/") for row in rows for name in row["values"])
    return [{name.removeprefix("system/"): value for name, value in row["values"].items()} for row in rows]


def measuring(run_dir):
    """Return the processes that measure for a run."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if "rankzero.capture.system_metrics" in (process.info["cmdline"] or ()) and has_open(process, run_dir)
    ]


def has_ended(process):
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def has_open(process, run_dir):
    try:
        return any(Path(file.path).is_relative_to(run_dir) for file in process.open_files())
    except psutil.Error:
        return False


# What is measured


def test_the_training_process_its_children_and_the_machine(training):
    training.start(
        """
        import hashlib, subprocess

        run = begin(system_metrics=0.05, capture_environment=False)
        while "system/" not in (run.dir / "journal.jsonl").read_text():  # what is written before does not count
            time.sleep(0.01)
        child = subprocess.Popen([sys.executable, "-c", "b = b'x' * 300_000_000; input()"], stdin=subprocess.PIPE)
        mine = b"x" * 200_000_000
        Path(directory, "file").write_bytes(mine)
        with open(directory / "file", "r+b") as file:
            os.fsync(file.fileno())
        ready()
        while True:
            hashlib.sha256(mine).digest()
        """
    )
    training.until_ready()
    found = until(lambda: next((each for each in samples(training.run_dir) if is_loaded(each)), None))
    assert found.keys() >= MACHINE | PROCESS
    assert 0.5 < found["process/memory_gb"] < 0.9  # without the courier's
    assert found["process/cpu_percent"] > 0
    assert 0 <= found["cpu_percent"] <= 100
    assert 0 < found["memory_percent"] < 100
    assert found["disk_free_gb"] == pytest.approx(psutil.disk_usage(training.run_dir).free / 1e9, abs=5)
    assert found["network_sent_gb"] >= 0


def is_loaded(sample):
    return sample["process/memory_gb"] > 0.5 and sample["process/disk_written_gb"] >= 0.2


def test_metrics_have_a_time_and_no_step(tmp_path):
    with begin(tmp_path) as run:
        run.log_metrics({"loss": 1.0}, 7)
        until(lambda: samples(run.dir))
    series = read_run(run.dir).metrics["system/cpu_percent"]
    assert all(step != step for step in series.step.tolist())
    assert run.dir.stat().st_ctime - 60 < series.time[0] < read_run(run.dir).finished
    assert rankzero.start([], dir=tmp_path, run_id="r1", system_metrics=False).step == 7


def test_what_cannot_be_measured_is_left_out_and_said_once(tmp_path, caplog):
    hardware = Hardware(os.getpid(), str(tmp_path / "nowhere"))
    assert {*hardware.measure()} >= (MACHINE - {"disk_free_gb"}) | PROCESS
    hardware.measure()
    assert [each.levelname for each in caplog.records if "nowhere" in each.getMessage()] == ["WARNING"]


def test_processes_that_rankzero_starts_do_not_count(tmp_path):
    before = Hardware(os.getpid(), str(tmp_path)).measure()["process/memory_gb"]
    run = rankzero.start("csv", dir=tmp_path, system_metrics=OFTEN)
    until(lambda: samples(run.dir))
    helpers = psutil.Process().children()
    assert sum(each.memory_info().rss for each in helpers) > 30e6
    found = Hardware(os.getpid(), str(tmp_path)).measure()["process/memory_gb"]
    run.finish()
    assert found - before < 0.03


# GPUs


def test_a_machine_without_a_gpu_is_not_worth_a_message(tmp_path):
    with begin(tmp_path) as run:
        found = until(lambda: samples(run.dir))[0]
    has_gpu = shutil.which("nvidia-smi") is not None
    assert has_gpu or not any(name.startswith("gpu") for name in found)
    assert (run.dir / "courier.log").read_text() == ""


def compile_library(directory, name, *sources):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    command = [compiler, "-shared", "-fPIC", "-o", directory / name, *sources]
    subprocess.run(command, check=True, timeout=A_WHILE)
    return directory


@pytest.fixture(scope="session")
def nvidia(tmp_path_factory):
    """A library that stands in for NVIDIA's driver: three GPUs, of which the last one measures little."""
    source = Path(__file__).with_name("nvml_stub.c")
    return compile_library(tmp_path_factory.mktemp("nvidia"), "libnvidia-ml.so.1", source)


@pytest.fixture(scope="session")
def amd(tmp_path_factory):
    """A library that stands in for AMD's, with the same GPUs."""
    source, directory = Path(__file__).with_name("amdsmi_stub.c"), tmp_path_factory.mktemp("amd")
    wrapper = importlib.metadata.distribution("amdsmi").locate_file("amdsmi/amdsmi_wrapper.py")
    used = set(re.findall(r"_libraries\['libamd_smi.so'\]\.(\w+)", wrapper.read_text()))
    rest = directory / "rest.c"  # the package looks for all functions when it is imported
    rest.write_text(
        "\n".join(f"int {name}() {{ return 2; }}" for name in used if f" {name}(" not in source.read_text())
    )
    return compile_library(directory, "libamd_smi.so", source, rest)


def measured_gpus(tmp_path):
    with begin(tmp_path) as run:
        found = until(lambda: samples(run.dir))[0]
    assert (run.dir / "courier.log").read_text() == ""
    return {name: value for name, value in found.items() if name.startswith("gpu")}


def expected_gpus(numbers):
    expected = {f"gpu{number}/temperature_celsius": 40 + number for number in numbers}
    for number in numbers - {2}:
        percent = 10 * (number + 1)
        expected |= {
            f"gpu{number}/utilization_percent": percent,
            f"gpu{number}/memory_gb": 0.8 * percent,
            f"gpu{number}/memory_percent": percent,
            f"gpu{number}/power_watts": 100 + number,
        }
    return expected


@pytest.mark.parametrize(
    ("visible", "numbers"),
    [
        (None, {0, 1, 2}),
        ("1", {1}),
        ("2, 0", {0, 2}),
        ("GPU-bbbb", {1}),
        ("GPU-", set()),  # of several
        ("0,7,1", {0}),
        ("-1", set()),
        ("", set()),
    ],
)
def test_visible_gpus_of_nvidia_are_measured(tmp_path, monkeypatch, nvidia, visible, numbers):
    monkeypatch.setenv("LD_LIBRARY_PATH", str(nvidia))
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert measured_gpus(tmp_path) == expected_gpus(numbers)


@pytest.mark.parametrize(
    ("visible", "numbers"),
    [
        ({}, {0, 1, 2}),
        ({"HIP": "0"}, {1}),
        ({"HIP": "", "CUDA": "1"}, {0}),
        ({"HIP": "0", "CUDA": "1"}, {1}),
        ({"ROCR": "GPU-aaaa1,GPU-cccc3"}, {0, 2}),
        ({"ROCR": "2,0", "HIP": "0"}, {2}),
        ({"ROCR": ""}, set()),
    ],
)
def test_visible_gpus_of_amd_are_measured(tmp_path, monkeypatch, amd, visible, numbers):
    monkeypatch.setenv("LD_LIBRARY_PATH", str(amd))
    for name in ("ROCR", "HIP", "CUDA"):
        monkeypatch.delenv(f"{name}_VISIBLE_DEVICES", raising=False)
    for name, value in visible.items():
        monkeypatch.setenv(f"{name}_VISIBLE_DEVICES", value)
    assert measured_gpus(tmp_path) == expected_gpus(numbers)


# Beginning and end


def test_nothing_is_written_after_the_end(tmp_path):
    for _ in range(5):
        run = begin(tmp_path)
        until(lambda: samples(run.dir))  # noqa: B023
        (process,) = measuring(run.dir)
        run.finish()
        assert not process.is_running()
        lines = (run.dir / "journal.jsonl").read_text().splitlines()
        assert json.loads(lines[-1])["type"] == "finish"
        shutil.rmtree(run.dir)


def test_a_process_that_hangs_does_not_hold_up_the_end(tmp_path):
    run = begin(tmp_path)
    until(lambda: samples(run.dir))
    (process,) = measuring(run.dir)
    process.suspend()  # as in a driver that does not answer
    run.finish()
    until(lambda: not process.is_running())
    assert json.loads((run.dir / "journal.jsonl").read_text().splitlines()[-1])["type"] == "finish"


def test_a_run_that_ends_at_once_is_complete(tmp_path):
    with begin(tmp_path) as run:
        pass
    lines = [json.loads(line) for line in (run.dir / "journal.jsonl").read_text().splitlines()]
    assert [each["type"] for each in lines] == ["start", "finish"]


@pytest.mark.parametrize("leaves_a_child", [False, True])
def test_it_ends_with_a_killed_training_process_whose_run_has_crashed(training, leaves_a_child):
    body = """
        run = begin(system_metrics=0.05, delivery="off")
        if os.fork() == 0:
            if {leaves_a_child}:
                time.sleep(A_WHILE)
            os._exit(0)
        os.wait() if not {leaves_a_child} else ready()
        ready()
        time.sleep(A_WHILE)
        """
    training.start(body.format(leaves_a_child=leaves_a_child))
    training.until_ready()
    until(lambda: samples(training.run_dir))
    (process,) = measuring(training.run_dir)
    training.process.send_signal(signal.SIGKILL)
    training.process.wait()
    until(lambda: not process.is_running())
    assert read_run(training.run_dir).status == "crashed"
    assert (training.run_dir / "courier.log").read_text() == ""


def test_a_forked_process_that_ends_does_not_end_it(training):
    training.start(
        """
        run = begin(system_metrics=0.05, delivery="off")
        for _ in range(2):
            if os.fork() == 0:
                run.log_metrics({"from a child": 1.0})
                sys.exit()
            os.wait()
        ready()
        time.sleep(A_WHILE)
        """
    )
    training.until_ready()
    before = len(samples(training.run_dir))
    until(lambda: len(samples(training.run_dir)) > before + 2)
    assert len(measuring(training.run_dir)) == 1


def test_a_training_process_that_becomes_another_program_is_not_measured(training):
    training.start(
        """
        run = begin(system_metrics=0.05, delivery="off")
        while "system/" not in (run.dir / "journal.jsonl").read_text(): time.sleep(0.01)
        ready()
        sys.stdin.readline()
        os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(240)"])
        """,
        stdin=subprocess.PIPE,
    )
    training.until_ready()
    (process,) = measuring(training.run_dir)
    training.process.stdin.write("\n")
    training.process.stdin.flush()
    until(lambda: has_ended(process))
    assert training.process.poll() is None


def test_a_resumed_run_is_measured_again(tmp_path):
    for number in (1, 2):
        with begin(tmp_path) as run:
            before = len(samples(run.dir))
            until(lambda: len(samples(run.dir)) > before)  # noqa: B023
            assert len(measuring(run.dir)) == 1, number


def test_a_run_whose_directory_is_deleted_is_not_made_again(tmp_path):
    run = begin(tmp_path)
    until(lambda: samples(run.dir))
    (process,) = measuring(run.dir)
    shutil.rmtree(run.dir)
    until(lambda: has_ended(process))
    assert not run.dir.exists()
    with pytest.warns(UserWarning, match="was deleted"):
        run.log_metrics({"loss": 1.0})
    run.finish()


# Training does not notice


NODE = {"RANK": "2", "LOCAL_RANK": "0", "GROUP_RANK": "1", "GROUP_WORLD_SIZE": "2"}


@pytest.mark.parametrize(
    ("variables", "options"),
    [
        ({}, {"system_metrics": False}),
        ({"RANKZERO_SYSTEM_METRICS": "0"}, {}),
        ({}, None),  # a config file does it
        ({"RANKZERO_DISABLED": "1"}, {}),
        ({"RANK": "1"}, {}),
        (NODE, {"system_metrics": False}),
        (NODE | {"RANKZERO_DISABLED": "1"}, {}),
        (NODE | {"RANK": "3", "LOCAL_RANK": "1"}, {}),
    ],
)
def test_it_can_be_turned_off(tmp_path, monkeypatch, variables, options):
    monkeypatch.chdir(tmp_path)
    if options is None:
        Path("rankzero.toml").write_text("system_metrics = false\n")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    before = psutil.Process().children()
    with rankzero.start([], dir=tmp_path, capture_environment=False, **(options or {})):
        assert psutil.Process().children() == before


@pytest.mark.parametrize(
    ("text", "expected"), [("0.05", 0.05), ("0", 0.0), ("off", False), ("true", True), ("often", None)]
)
def test_environment_variable(monkeypatch, text, expected):
    from rankzero.config.resolving import resolve

    monkeypatch.setenv("RANKZERO_SYSTEM_METRICS", text)
    if expected is None:
        with pytest.raises(rankzero.errors.ConfigError, match="a number of seconds, true or false, not 'often'"):
            resolve()
    else:
        assert resolve().system_metrics is expected or resolve().system_metrics == expected


def test_nothing_is_imported_into_the_training_process(tmp_path):
    script = """
import sys, rankzero
with rankzero.start([], dir=sys.argv[1], system_metrics=0.05):
    print(sorted({"psutil", "pynvml", "amdsmi", "rankzero.capture.hardware"} & sys.modules.keys()))
"""
    command = [sys.executable, "-c", script, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=A_WHILE, check=True)
    assert done.stdout == "[]\n"


def test_a_process_that_cannot_be_started_is_no_error(tmp_path, monkeypatch, caplog):
    caplog.set_level("DEBUG", "rankzero")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with begin(tmp_path, capture_environment=False) as run:
        run.log_metrics({"loss": 1.0})
    (record,) = [each for each in caplog.records if "not measured" in each.getMessage()]
    assert record.levelname == "DEBUG"


def test_a_full_disk_does_not_reach_training(tmp_path):
    with full_disk(2000):
        run = begin(tmp_path)  # the process inherits the limit
    (process,) = until(lambda: measuring(run.dir))
    until(lambda: (run.dir / "journal.jsonl").stat().st_size == 2000)
    run.log_metrics({"loss": 1.0}, 0)
    assert process.is_running()
    run.finish()
    data = read_run(run.dir)
    assert (data.status, data.metrics["loss"].value.tolist(), data.damaged) == ("success", [1.0], 1)

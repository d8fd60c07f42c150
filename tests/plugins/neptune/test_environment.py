"""What Neptune shows of a process under a Run is that of the training process, not of a courier."""

import platform

import pytest
from plugins.neptune.delivered import points_stored
from servers.training import Training

SCRIPT = """
    os.chdir(directory)
    said = {{"tags": ["green"], "notes": "a note", "name": "brave-owl"}}
    run = rankzero.start({options}, dir=directory / "runs", run_id="r1", **said)
    print("hello")
    print("x" * 1500)
    sys.stderr.write("careful\\n")
    run.log_metrics({{"loss": 0.5}}, 0)
    {live}
    run.finish(timeout=A_WHILE)
"""
LIVE = """
    run.experiment["mine/note"] = "hello"
    run.experiment["mine/series"].append(1.5, step=3)
    run.log_metrics({"loss": 0.25}, 1)
    run.experiment.wait()
"""


@pytest.fixture
def training(here, tmp_path, monkeypatch):
    monkeypatch.setenv("TRAINING_DIRECTORY", str(tmp_path))
    training = Training(tmp_path)
    yield training
    training.kill()


def trained(server, training, options='"neptune"', live=""):
    returned, _, errors = training.run(SCRIPT.format(options=options, live=live.strip()))
    assert returned == 0, errors
    (run,) = server.store.runs.values()
    return run


def lines(run, path):
    return [text for text, _, _ in run.series(path)]


def test_the_training_process_is_shown_and_has_a_live_run(server, training):
    run = trained(server, training, live=LIVE)
    assert [point[:2] for point in points_stored(server, "r1")] == [(0, 0.5), (1, 0.25)]
    assert (run.value("mine/note"), run.value("sys/failed")) == ("hello", False)
    assert [(p.value, p.step) for p in run.series("mine/series")] == [(1.5, 3.0)]
    assert "source_code/files" not in run.attributes
    assert (run.value("sys/name"), run.value("sys/description"), run.tags) == ("brave-owl", "a note", {"green"})
    assert run.value("sys/hostname") == platform.node()
    printed = [line for line in lines(run, "monitoring/training/stdout") if not line.startswith("[neptune]")]
    assert printed == ["hello", "x" * 1000, "x" * 500]
    assert "careful" in lines(run, "monitoring/training/stderr")
    assert run.value("source_code/entrypoint") == "train.py"
    assert run.file("source_code/script") == (training.directory / "train.py").read_bytes()
    assert set(run.created) >= {"customId"}
    assert run.created.get("gitInfo") is None
    kept = {path for path in run.attributes if path.startswith("monitoring/")}
    assert kept == {"monitoring/training/stdout", "monitoring/training/stderr"}


def test_only_what_the_user_wants_is_shown(server, training):
    options = """{"neptune": {
        "capture_stdout": False, "capture_stderr": False, "source_files": [], "git_ref": False, "name": "mine",
        "description": "my own", "tags": ["blue"], "dependencies": "infer"
    }}"""
    run = trained(server, training, options)
    assert not [path for path in run.attributes if path.startswith("monitoring/")]
    code = {path for path in run.attributes if path.startswith("source_code/")}
    assert code == {"source_code/requirements"}
    assert b"neptune==" in run.file("source_code/requirements")
    assert (run.value("sys/name"), run.value("sys/description")) == ("mine", "my own")
    assert run.tags == {"blue", "green"}

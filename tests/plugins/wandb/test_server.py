"""The W&B server of the tests, with the real SDK: what it stores is what was logged, and its faults are felt."""

import base64
import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
import wave

import pytest
from plugins.wandb.arrived import arrived
from servers.wandb_mock.run import Alert
from servers.wandb_server import WandbServer
from waiting import A_WHILE, SOON

from rankzero.testing.loopback import dies, dropped, lost, stalled, status, truncated
from rankzero.testing.samples import GIF, wav
from rankzero.testing.tracked import Item

BEGIN = """
    import json, math, sys, time, numpy as np, wandb
    def begin(**options):
        return wandb.init(**{"project": "p", "id": "r", **options})
    def log(run, first, last):
        for step in range(first, last):
            run.log({"row": step, "_timestamp": 1000.5 + step}, step=step, commit=True)
"""
EVERYTHING = """
    with begin(config={"lr": 0.1, "net": {"sizes": [1, 2]}}, name="named", notes="why", tags=["a", "b"],
               group="folds", job_type="train", settings=wandb.Settings(host="machine", program="train.py")) as run:
        run.define_metric("val/loss", step_metric="trainer/global_step", summary="min,mean")
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        for step, loss in enumerate([1 / 3, math.nan, -math.inf]):
            run.log({"loss": loss, "trainer/global_step": step * 10, "_timestamp": 1000.5 + step}, step=step)
        run.log({"val/loss": 3, "_timestamp": 1.0}, step=3)
        run.log({"val/loss": 1, "_timestamp": 2.0}, step=4)
        run.log({
            "picture": wandb.Image(np.arange(16, dtype=np.uint8).reshape(4, 4), caption="gray"),
            "pictures": [wandb.Image(np.full((4, 4), value, np.uint8)) for value in (0, 255)],
            "table": wandb.Table(columns=["a", "b"], data=[[1, "x"], [2, "y"]]),
            "histogram": wandb.Histogram(np_histogram=([1, 2], [0.0, 0.5, 1.0])),
            "sound": wandb.Audio("sound.wav"),
            "page": wandb.Html("<b>hello</b>", inject=False),
        }, step=5)
        run.config.update({"late": True})
        print("to the terminal")
        run.alert("Loss is NaN", "look", level="ERROR")
        run.summary["best"] = 0.25
"""


@pytest.fixture
def server():
    with WandbServer() as server:
        yield server
        assert server.problems == []


@pytest.fixture
def sdk(server, tmp_path):
    """Run code that logs with the SDK; return what it printed."""

    def run(code, **more):
        return _output_of(_started(server, tmp_path, code, **more))

    return run


def _started(server, directory, code, **more):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(BEGIN) + textwrap.dedent(code)],
        cwd=directory,
        env={**environment, **server.environment(directory), **more},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _output_of(process, returns=0):
    with process:
        output, errors = process.communicate(timeout=A_WHILE)
    assert process.returncode == returns, errors
    return output


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """A run with all that can be logged, and the bytes of its sound."""
    directory = tmp_path_factory.mktemp("everything")
    with wave.open(str(directory / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(range(100)))
    with WandbServer() as server:
        _output_of(_started(server, directory, EVERYTHING))
        assert server.problems == []
        yield server.run("r"), (directory / "sound.wav").read_bytes()


def test_numbers_arrive_with_their_times_and_what_is_not_finite(everything):
    run, _ = everything
    steps, values, times = zip(*run.scalars("loss", "trainer/global_step"), strict=True)
    assert (steps, times) == ((0, 10, 20), (1000.5, 1001.5, 1002.5))
    assert (values[0], values[2]) == (1 / 3, -math.inf)
    assert math.isnan(values[1])
    assert run.scalars("val/loss") == [(3, 3, 1.0), (4, 1, 2.0)]


def test_config_and_summary_arrive(everything):
    run, _ = everything
    assert run.config == {"lr": 0.1, "net": {"sizes": [1, 2]}, "late": True}
    assert run.summary["val/loss"] == {"min": 1, "mean": 2}
    assert run.summary["best"] == 0.25


def test_what_a_person_says_of_a_run_arrives(everything):
    run, _ = everything
    assert (run.display_name, run.notes, list(run.tags)) == ("named", "why", ["a", "b"])
    assert (run.group, run.job_type, run.state, run.exit_code) == ("folds", "train", "finished", 0)
    assert run.alerts == [Alert("Loss is NaN", "look", "ERROR")]


def test_program_host_and_console_arrive(everything):
    run, _ = everything
    assert (run.program, run.host) == ("train.py", "machine")
    assert (run.metadata["program"], run.metadata["host"]) == ("train.py", "machine")
    assert run.console == ["to the terminal"]
    assert b"to the terminal" in run.files["output.log"]


def test_definitions_of_metrics_arrive(everything):
    run, _ = everything
    assert run.metrics["val/loss"].step_metric == "trainer/global_step"
    assert run.metrics["val/loss"].summary == {"min", "mean"}
    assert run.metrics["*"].step_metric == "trainer/global_step"
    assert run.metrics["*"].step_sync


def test_pictures_arrive(everything, tmp_path):
    image = pytest.importorskip("PIL.Image")
    run, _ = everything
    (picture,) = run.media("picture")
    (pictures,) = run.media("pictures")
    paths = []
    for number, content in enumerate(picture.files + pictures.files):
        paths.append(tmp_path / f"{number}.png")
        paths[-1].write_bytes(content)
    assert (picture.step, picture.value["caption"]) == (5, "gray")
    assert list(image.open(paths[0]).tobytes()) == list(range(16))
    assert [image.open(path).getpixel((0, 0)) for path in paths[1:]] == [0, 255]


def test_other_media_arrive(everything):
    run, sound = everything
    (table,) = run.media("table")
    assert json.loads(table.files[0]) == {"columns": ["a", "b"], "data": [[1, "x"], [2, "y"]]}
    (histogram,) = run.media("histogram")
    assert (histogram.value["values"], histogram.value["bins"]) == ([1, 2], [0, 0.5, 1])
    assert run.media("sound")[0].files == [sound]
    assert run.media("page")[0].files == [b"<b>hello</b>"]


ARTIFACTS = """
    def logged(run, content, *aliases):
        artifact = wandb.Artifact("model-r", "model", metadata={"content": content})
        with artifact.new_file("model.ckpt") as file:
            file.write(content)
        return run.log_artifact(artifact, aliases=list(aliases)).wait(30)

    with begin() as run:
        print([logged(run, content, "best").version for content in ("one", "two", "one")])
        logged(run, "three")
    with begin(id="user") as run:
        print(open(run.use_artifact("model-r:best").download() + "/model.ckpt").read())
        print(open(wandb.Api().artifact("tester/p/model-r:v1").download() + "/model.ckpt").read())
"""


def test_artifacts_have_versions_and_aliases_that_move_and_come_back(server, sdk):
    versions, used, fetched = sdk(ARTIFACTS).splitlines()
    assert (versions, used, fetched) == ("['v0', 'v1', 'v0']", "one", "two")
    best = server.artifact("model-r:best", "p")
    assert (best.version, best.type, best.metadata) == ("v0", "model", {"content": "one"})
    assert (best.files, best.run, best.used_by) == ({"model.ckpt": b"one"}, "tester/p/r", ["tester/p/user"])
    assert server.artifact("model-r", "p").files == {"model.ckpt": b"three"}
    assert [server.artifact(f"model-r:v{number}", "p").aliases for number in range(3)] == [["best"], [], ["latest"]]


def test_an_alias_can_be_moved_later(server, sdk):
    sdk("""
        with begin() as run:
            for content in ("one", "two"):
                artifact = wandb.Artifact("m", "model")
                with artifact.new_file("f") as file:
                    file.write(content)
                run.log_artifact(artifact, aliases=["best"]).wait(30)
            first = wandb.Api().artifact("tester/p/m:v0")
            first.aliases.append("best")
            first.metadata["score"] = 1
            first.save()
    """)
    assert server.artifact("m:best", "p").files == {"f": b"one"}
    assert server.artifact("m:best", "p").metadata == {"score": 1}


def test_a_run_that_fails(server, tmp_path):
    _output_of(_started(server, tmp_path, "begin(); sys.exit(3)"), returns=3)
    assert (server.run("r").state, server.run("r").exit_code) == ("failed", 3)


@pytest.mark.parametrize("resume", ["allow", "must"])
def test_a_finished_run_goes_on(server, sdk, resume):
    sdk("with begin(config={'a': 1}, tags=['t']) as run: log(run, 0, 5)")
    output = sdk(f"""
        with begin(resume="{resume}") as run:
            print(run.starting_step, run.resumed, dict(run.config), run.tags)
            log(run, 2, 8)
    """)
    assert output.split() == ["5", "True", "{'a':", "1}", "('t',)"]
    assert server.run("r").scalars("row") == [(step, step, 1000.5 + step) for step in range(8)]
    assert server.run("r").state == "finished"


def test_there_is_no_run_that_must_go_on(server, sdk):
    assert (
        sdk("""
        try:
            begin(resume="must")
        except wandb.errors.UsageError:
            print("refused")
    """)
        == "refused\n"
    )


def test_a_killed_run_goes_on_where_the_server_has_it(server, sdk, tmp_path):
    process = _started(server, tmp_path, "run = begin(); log(run, 0, 5); print('logged', flush=True); time.sleep(60)")
    process.stdout.readline()
    server.until(lambda server: len(server.run("r").history) == 5)
    process.kill()
    _output_of(process, returns=-signal.SIGKILL)
    assert server.run("r").state == "running"
    assert (
        sdk("""
        with begin(resume="allow") as run:
            print(run.starting_step)
            log(run, 0, 8)
    """)
        == "5\n"
    )
    assert [each.value for each in server.run("r").scalars("row")] == list(range(8))


def test_a_run_of_which_nothing_is_heard_has_crashed(server, sdk):
    sdk("begin(settings=wandb.Settings(x_update_finish_state=False)).finish()")
    assert server.run("r").state == "running"
    server.run("r").crashed_after = 0.0
    assert server.run("r").state == "crashed"


def test_an_offline_run_is_synced(server, sdk, tmp_path):
    sdk("with begin(mode='offline', config={'a': 1}) as run: log(run, 0, 5)")
    assert server.requests == []
    sdk(f"""
        import subprocess
        subprocess.run([sys.executable, "-m", "wandb", "sync", {str(next(tmp_path.glob("wandb/offline-*")))!r}])
    """)
    assert server.run("r").scalars("row") == [(step, step, 1000.5 + step) for step in range(5)]
    assert (server.run("r").config, server.run("r").state) == ({"a": 1}, "finished")


def test_a_wrong_key_is_refused(server, sdk):
    assert "401" in sdk(
        """
        import logging
        try:
            begin(settings=wandb.Settings(init_timeout=10))
        except wandb.errors.CommError as error:
            print("401", error)
        """,
        WANDB_API_KEY="f" * 40,
    )
    assert server.store.runs == {}


PASSING = {
    "500": status(500),
    "429": status(429, retry_after="1"),
    "dropped": dropped,
    "lost": lost,
}


@pytest.mark.parametrize("fault", PASSING)
def test_after_a_fault_that_passes_each_row_is_there_once(server, sdk, fault):
    server.fail("file_stream", PASSING[fault], times=2)
    sdk("with begin() as run: log(run, 0, 20)")
    assert server.count("file_stream") > 2
    assert [each.value for each in server.run("r").scalars("row")] == list(range(20))


def test_a_truncated_answer_is_enough_for_the_client(server, sdk):
    server.fail("file_stream", truncated)
    sdk("with begin() as run: log(run, 0, 20)")
    assert [each.value for each in server.run("r").scalars("row")] == list(range(20))


@pytest.mark.parametrize("code", [401, 404, 410])
def test_a_fault_after_which_the_client_gives_up(server, sdk, code):
    server.fail("file_stream", status(code))
    sdk("with begin() as run: log(run, 0, 20)")
    assert server.run("r").history == []


def test_a_fault_concerns_the_requests_it_is_for(server, sdk):
    server.fail("UpsertBucket", status(500), times=1)
    server.fail("PUT /artifact-file", status(500), times=1)
    server.fail("PUT /run-file", status(500), times=1)
    sdk("with begin() as run: run.log({'table': wandb.Table(columns=['a'], data=[[1]])})")
    assert server.run("r").media("table")[0].value["nrows"] == 1
    files = server.artifact("run-r-table", "p").files
    assert json.loads(files["table.table.json"])["data"] == [[1]]
    assert server.run("r").state == "finished"


def test_a_stalled_server_answers_when_it_is_healed(server, tmp_path):
    server.fail("file_stream", stalled())
    process = _started(server, tmp_path, "with begin() as run: log(run, 0, 5)")
    server.until(lambda server: server.count("file_stream"))
    time.sleep(1)
    assert process.poll() is None
    server.heal()
    _output_of(process)
    assert len(server.run("r").history) == 5


def test_a_server_dies_and_returns_with_what_it_had(server, tmp_path):
    process = _started(
        server, tmp_path, "run = begin(); log(run, 0, 5); sys.stdin.read(); log(run, 5, 9); run.finish()"
    )
    server.until(lambda server: len(server.run("r").history) == 5)
    server.fail("file_stream", dies, times=1)
    server.until(lambda server: not server.is_running)
    server.start()
    _output_of(process)
    assert [each.value for each in server.run("r").scalars("row")] == list(range(9))


def test_a_stopped_server_refuses(server, sdk):
    server.stop()
    assert (
        sdk("""
        try:
            begin(settings=wandb.Settings(init_timeout=1))
        except wandb.errors.CommError:
            print("refused")
    """)
        == "refused\n"
    )
    assert server.requests == []


def test_the_public_api_reads_files(server, sdk):
    server.fail("PUT /run-file/tester/p/r/media", status(403))
    output = sdk("""
        import pathlib
        for name in ("one.txt", "two.txt"):
            pathlib.Path(name).write_text(name * 3)
        pathlib.Path("sub").mkdir()
        pathlib.Path("sub/a b.txt").write_text("later")
        with begin() as run:
            run.save("*.txt", policy="now")
            run.log({"table": wandb.Table(columns=["a"], data=[[1]])})
        run = wandb.Api().run("p/r")
        media = run.files(pattern="media/%")[0]
        print(json.dumps({
            "all": [file.name for file in run.files(per_page=2)],
            "count": len(run.files()),
            "named": [[file.size, file.md5] for file in run.files(names=["two.txt", "none"])],
            "like": [file.name for file in run.files(pattern="t_o.%")],
            "announced": [media.name, media.size, media.md5],
            "downloaded": run.file("one.txt").download("there").read(),
            "uploaded": run.upload_file("sub/a b.txt").size,
            "host": run.metadata["host"],
        }))
    """)
    found = json.loads(output)
    names = sorted(server.run("r").announced - {"sub/a b.txt"})
    assert (found["all"], found["count"]) == (names, len(names))
    assert found["named"] == [[21, base64.b64encode(hashlib.md5(b"two.txt" * 3).digest()).decode()]]
    assert found["like"] == ["two.txt"]
    assert found["announced"] == [next(name for name in names if name.startswith("media/")), 0, None]
    assert (found["downloaded"], found["uploaded"]) == ("one.txt" * 3, 5)
    assert server.run("r").files["sub/a b.txt"] == b"later"
    assert found["host"] == server.run("r").host


def test_the_public_api_reads_rows(server, sdk):
    output = sdk("""
        with begin(config={"lr": 0.1}, tags=["t"]) as run:
            log(run, 0, 5)
            run.log({"late": math.nan}, step=7, commit=True)
        run = wandb.Api().run("p/r")
        rows = list(run.scan_history(page_size=2))
        print(json.dumps({
            "sampled": run.history(keys=["row"], pandas=False),
            "all": [row["_step"] for row in run.history(pandas=False)],
            "scanned": [row["_step"] for row in rows],
            "nan": [math.isnan(rows[-1]["late"]), run.history(keys=["late"], pandas=False)[0]["late"]],
            "keys": list(run.scan_history(keys=["row"], page_size=2)),
            "some": [row["_step"] for row in run.scan_history(min_step=2, max_step=4)],
            "last": run.lastHistoryStep,
            "summary": run.summary["row"],
            "said": [run.config, run.tags, run.state],
        }))
    """)
    found = json.loads(output)
    rows = [{"_step": step, "row": step} for step in range(5)]
    assert (found["sampled"], found["keys"]) == (rows, rows)
    assert (found["all"], found["scanned"], found["some"]) == ([0, 1, 2, 3, 4, 7], [0, 1, 2, 3, 4, 7], [2, 3])
    assert found["nan"] == [True, "NaN"]
    assert (found["last"], found["summary"]) == (7, 4)
    assert found["said"] == [{"lr": 0.1}, ["t"], "finished"]


def test_files_leave_five_seconds_after_the_first_of_them(server, tmp_path):
    """Those of media have the step that was current before their row."""
    process = _started(
        server,
        tmp_path,
        """
        run = begin()
        time.sleep(6)  # wandb-metadata.json has left
        open("saved.txt", "w").close()
        print(time.time(), flush=True)
        run.log({"picture": wandb.Image(np.zeros((4, 4), np.uint8))}, step=0, commit=True)
        time.sleep(2)
        run.save("saved.txt", policy="now")
        run.log({"table": wandb.Table(columns=["a"], data=[[1]])}, step=5, commit=True)
        sys.stdin.read()
        """,
    )
    began = float(process.stdout.readline())
    expected = {"media/images/picture", "media/table/table", "saved.txt"}
    server.until(lambda server: expected <= {name.split("_")[0] for name in server.run("r").files})
    times = [
        request.time - began
        for request in server.requests
        if request.name.startswith("PUT /run-file") and request.time > began
    ]
    _output_of(process)
    table = server.run("r").media("table")[0]
    assert len(times) == 3
    assert all(4 < time < SOON for time in times)
    assert (table.step, table.value["path"].split("_")[1]) == (5, "1")


REFUSED = """
    with begin(settings=wandb.Settings(finish_timeout=5)) as run:
        artifact = wandb.Artifact("m", "model")
        with artifact.new_file("f") as file:
            file.write("one")
        try:
            print(run.log_artifact(artifact).wait(3).version)
        except Exception as error:
            print(type(error).__name__, error)
"""
TOO_MANY = "ArtifactSaver.uploadFiles: most remaining uploads (1/1) have failed, giving up"


@pytest.mark.parametrize("name", ["ArtifactType", "CreateArtifact", "PUT /artifact-file", "CommitArtifact"])
def test_an_artifact_arrives_after_a_fault_that_passes(server, sdk, name):
    server.fail(name, status(500), times=2)
    assert sdk(REFUSED) == "v0\n"
    assert server.artifact("m", "p").files == {"f": b"one"}


@pytest.mark.parametrize("code", [400, 403, 404, 413])
def test_an_artifact_is_refused_for_good(server, sdk, code):
    server.fail("/graphql CreateArtifact", status(code))
    assert sdk(REFUSED).startswith(f"ValueError ArtifactSaver.createArtifact: returned error {code}")
    server.heal()
    server.fail("PUT /artifact-file", status(code))
    assert sdk(REFUSED) == f"ValueError {TOO_MANY}\n"
    assert server.count("PUT /artifact-file") == 1


def test_to_wait_for_an_artifact_takes_too_long(server, sdk):
    server.fail("PUT /artifact-file", stalled())
    assert sdk(REFUSED).startswith("WaitTimeoutError Artifact upload wait timed out")


def test_a_version_is_deleted(server, sdk):
    output = sdk("""
        with begin() as run:
            for content in ("one", "two"):
                artifact = wandb.Artifact("m", "model")
                with artifact.new_file("f") as file:
                    file.write(content)
                run.log_artifact(artifact, aliases=["best"]).wait(30)
            second = wandb.Api().artifact("tester/p/m:best")
            try:
                second.delete()
            except wandb.errors.CommError as error:
                print("aliases" in str(error))
            second.delete(delete_aliases=True)
            artifact = wandb.Artifact("m", "model")
            with artifact.new_file("f") as file:
                file.write("two")
            print(run.log_artifact(artifact).wait(30).version)
    """)
    assert output.split() == ["True", "v2"]
    assert [version.version for version in server.artifact("m", "p").collection.versions] == ["v0", "v2"]
    with pytest.raises(KeyError):
        server.artifact("m:best", "p")


SWEEP = """
    sweep_id = wandb.sweep({
        "method": "grid", "program": "train.py", "parameters": {"lr": {"values": [0.1, 0.2, 0.3]}, "n": {"value": 3}}
    }, project="p")
"""
SWEPT = [{"lr": 0.1, "n": 3}, {"lr": 0.2, "n": 3}]


def test_an_agent_calls_a_function(server, sdk):
    sdk(f"""{SWEEP}
    def train():
        with wandb.init() as run:
            run.log({{"loss": run.config.lr}})
    wandb.agent(sweep_id, train, count=2)
    """)
    (sweep,) = server.store.sweeps.values()
    runs = [server.run(run_id) for run_id in sweep.run_ids[:2]]
    assert [run.config for run in runs] == SWEPT
    assert [run.sweep for run in runs] == [sweep.id] * 2
    assert [run.scalars("loss")[0].value for run in runs] == [0.1, 0.2]


@pytest.mark.slow
def test_an_agent_starts_a_program(server, sdk, tmp_path):
    program = tmp_path / "train.py"
    program.write_text("""
import os, sys, wandb
with wandb.init() as run:
    parameters = os.path.exists(os.environ["WANDB_SWEEP_PARAM_PATH"])
    run.summary["given"] = [*sys.argv[1:], os.environ["WANDB_RUN_ID"], os.environ["WANDB_SWEEP_ID"], parameters]
    run.summary["here"] = [run.id, run.sweep_id]
""")
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    sdk(
        f"""{SWEEP}
    import subprocess
    # What it returns says nothing: it may abort when all is done, on its way out.
    subprocess.run([sys.executable, "-m", "wandb", "agent", "--count", "2", "tester/p/" + sweep_id])
    """,
        PATH=path,
    )
    (sweep,) = server.store.sweeps.values()
    runs = [server.run(run_id) for run_id in sweep.run_ids]
    assert [run.config for run in runs] == SWEPT
    for run, parameters in zip(runs, SWEPT, strict=True):
        args = [f"--{name}={value}" for name, value in parameters.items()]
        assert run.summary["given"] == [*args, run.id, sweep.id, True]
        assert run.summary["here"] == [run.id, sweep.id]


def test_what_arrived_of_metrics_in_the_words_of_rankzero(server, sdk):
    sdk("""
        with begin(config={"lr": 0.1, "_hidden": 1}, tags=["a"]) as run:
            run.define_metric("loss", summary="min")
            run.log({"loss": 0.5, "trainer/global_step": 10, "_timestamp": 1000.5, "yes": True, "no": "text"})
            run.log({"loss": math.nan, "_timestamp": 1001.5})
            run.log({"loss": -math.inf, "trainer/global_step": 30, "_timestamp": 1002.5})
    """)
    tracked = arrived(server.run("r"), server)
    assert (tracked.params, tracked.tags, tracked.status) == ({"lr": 0.1}, ["a"], "success")
    assert list(tracked.metrics) == ["loss"]
    first, second, third = tracked.metrics["loss"]
    assert (first, third) == ((10, 0.5, 1000.5), (30, -math.inf, 1002.5))
    assert (second.step, second.time, math.isnan(second.value)) == (None, 1001.5, True)
    assert tracked.items == {"define_metric": [Item("loss")]}


@pytest.mark.parametrize(("code", "expected"), [(3, "failed"), (255, "aborted")])
def test_what_arrived_of_a_run_that_did_not_end_well(server, sdk, code, expected):
    sdk(f"begin().finish(exit_code={code})")
    assert arrived(server.run("r"), server).status == expected


def test_a_run_that_goes_on_has_no_status(server, sdk):
    sdk("begin(settings=wandb.Settings(x_update_finish_state=False)).finish()")
    assert arrived(server.run("r"), server).status is None


ITEMS = """
    from wandb.sdk.data_types.graph import Graph
    def artifact(name, type, content, metadata=None):
        made = wandb.Artifact(name, type, metadata=metadata)
        with made.new_file("f") as file:
            file.write(content)
        return made
    def image(value, caption=None):
        return wandb.Image(np.full((4, 4), value, np.uint8), caption=caption)
    with begin() as run:
        run.log({
            "trainer/global_step": 3,
            "image": image(0, "black"),
            "images": [image(200, "bright"), image(100)],  # without a caption of the first all are lost
            "audio": wandb.Audio("sound.wav", caption="silence"),
            "videos": [wandb.Video("video.gif", format="gif", caption="short")],
            "table": wandb.Table(columns=["a", "b"], data=[[1, "x"]]),
            "text": wandb.Table(columns=["value"], data=[["hello"]]),
            "histogram": wandb.Histogram(np_histogram=([1, 2], [0.0, 0.5, 1.0])),
            "figure": image(0, "plot"),
            "page": wandb.Html("<b>hello</b>", inject=False),
        })
        run.summary["graph"] = Graph()
        run.log_artifact(artifact("numbers", "dataset", "data"), aliases=["v1"])
        run.log_artifact(
            artifact("model-r", "model", "weights", {"original_filename": "m.ckpt", "score": 0.5, "step": 7}),
            aliases=["best"],
        )
"""


def test_what_arrived_of_other_things_in_the_words_of_rankzero(server, sdk, tmp_path):
    (tmp_path / "sound.wav").write_bytes(wav())
    (tmp_path / "video.gif").write_bytes(GIF)
    sdk(ITEMS)
    run = server.run("r")
    items = arrived(run, server, texts={"text"}, figures={"figure", "page"}).items
    (image,), (images,), (figure,) = (run.media(key) for key in ("image", "images", "figure"))
    assert items == {
        "image": [
            Item("image", 3, image.files[0], "black"),
            Item("images", 3, images.files[0], "bright"),
            Item("images", 3, images.files[1]),
        ],
        "audio": [Item("audio", 3, wav(), "silence")],
        "video": [Item("videos", 3, GIF, "short")],
        "table": [Item("table", 3, (["a", "b"], [[1, "x"]]))],
        "text": [Item("text", 3, (["value"], [["hello"]]))],
        "histogram": [Item("histogram", 3, ([1, 2], [0, 0.5, 1]))],
        "figure": [Item("figure", 3, figure.files[0], "plot"), Item("page", 3, b"<b>hello</b>")],
        "graph": [Item("graph", None, run.files[run.summary["graph"]["path"]])],
        "artifact": [Item("numbers", None, b"data", aliases=("v1",))],
        "checkpoint": [Item("m.ckpt", 7, b"weights", aliases=("best",), score=0.5)],
    }
    assert "page" not in str(arrived(run, server).items)


def test_media_whose_files_did_not_come_did_not_arrive(server, sdk):
    server.fail("PUT /run-file/tester/p/r/media", status(403))
    sdk("with begin() as run: run.log({'table': wandb.Table(columns=['a'], data=[[1]]), 'n': 1})")
    tracked = arrived(server.run("r"), server)
    assert (list(tracked.metrics), tracked.items) == (["n"], {})

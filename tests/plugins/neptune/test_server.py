"""The Neptune server of the tests, with the real SDK: what it stores is what was logged, and its faults are felt."""

import io
import json
import os
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
import zipfile
from datetime import UTC, datetime

import pytest
from PIL import Image
from servers.neptune_mock.sessions import api_token
from servers.neptune_server import NeptuneServer, separate_neptune
from waiting import A_WHILE, SOON

from rankzero.testing.faults import dies, dropped, late, lost, stalled, status

pytestmark = pytest.mark.filterwarnings(r"ignore:jsonschema\.RefResolver is deprecated:DeprecationWarning")

QUIET = {f"capture_{name}": False for name in ("stdout", "stderr", "hardware_metrics", "traceback")}
BEGIN = f"""
    import neptune
    def begin(**options):
        return neptune.init_run(**{{**{QUIET}, "source_files": [], "git_ref": False, **options}})
"""
MOMENT = datetime(2024, 1, 2, 3, 4, 5, 678000, UTC)


@pytest.fixture
def server():
    with NeptuneServer(part_sizes=(1000, 400)) as server:
        yield server
        assert server.problems == []


@pytest.fixture
def begin(server, monkeypatch, tmp_path):
    """Begin runs in this process, which end with the test."""
    for name, value in server.environment(tmp_path / "neptune").items():
        monkeypatch.setenv(name, value)
    import neptune

    made = []

    def begin_run(**options):
        made.append(neptune.init_run(**{**QUIET, "source_files": [], "git_ref": False, **options}))
        return made[-1]

    yield begin_run
    for run in made:
        run.stop(seconds=5)


@pytest.fixture
def project(server, begin):
    """The project, to read from."""
    import neptune

    project = neptune.init_project(mode="read-only")
    yield project
    project.stop()


def python(environment, code, directory):
    """Run code in a process of its own; return what it printed."""
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(BEGIN) + textwrap.dedent(code)],
        env={**os.environ, **environment},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=A_WHILE,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_single_values_are_stored_with_their_types(server, begin):
    run = begin(name="named", description="why", tags=["a", "b"], custom_run_id="own")
    run["params"] = {"lr": 1 / 3, "layers": 3, "bias": True, "net": {"act": "relu ü"}}
    run["when"] = MOMENT
    run["twice"] = "first"
    run["twice"] = "second"
    run["sys/tags"].remove("a")
    run.wait()
    stored = server.run("RUN-1")
    assert {path: (each.type, each.value) for path, each in stored.logged.items()} == {
        "params/lr": ("float", 1 / 3),
        "params/layers": ("int", 3),
        "params/bias": ("bool", True),
        "params/net/act": ("string", "relu ü"),
        "when": ("datetime", MOMENT),
        "twice": ("string", "second"),
    }
    assert (stored.value("sys/name"), stored.value("sys/description")) == ("named", "why")
    assert (stored.tags, stored.custom_id, server.run("own")) == ({"b"}, "own", stored)
    assert (stored.workspace, stored.project) == ("tester", "project")


def test_series_keep_their_steps_and_times(server, begin):
    run = begin()
    for step in range(3):
        run["loss"].append(1 / (step + 1), step=step * 10, timestamp=1_700_000_000.25 + step)
    run["acc"].extend([0.5, 1e-300], steps=[0.5, 7.25], timestamps=[1.5, 2.5])
    run["unnumbered"].extend([1.0, 2.0])
    run["text"].append("first line", step=4, timestamp=3.0)
    run.wait()
    stored = server.run("RUN-1")
    assert stored.series("loss") == [
        (1.0, 0, 1_700_000_000_250),
        (0.5, 10, 1_700_000_001_250),
        (1 / 3, 20, 1_700_000_002_250),
    ]
    assert stored.series("acc") == [(0.5, 0.5, 1500), (1e-300, 7.25, 2500)]
    assert [(value, step) for value, step, _ in stored.series("unnumbered")] == [(1.0, 0), (2.0, 1)]
    assert stored.series("text") == [("first line", 4, 3000)]
    assert [stored.attributes[path].type for path in ("loss", "text")] == ["floatSeries", "stringSeries"]


def test_images_are_stored_as_sent(server, begin):
    run = begin()
    for step, shade in enumerate([0, 255]):
        picture = Image.new("L", (3, 2), shade)
        run["pictures"].append(picture, name="shade", description=str(shade), step=step, timestamp=5.0)
    run.wait()
    points = server.run("RUN-1").series("pictures")
    assert [(point.step, point.time, point.value.description) for point in points] == [(0, 5000, "0"), (1, 5000, "255")]
    pixels = [Image.open(io.BytesIO(point.value.content)).convert("L").tobytes() for point in points]
    assert pixels == [bytes(6), bytes([255] * 6)]


@pytest.mark.parametrize("size", [0, 1000, 1001, 2345])
def test_a_file_is_stored_whole_or_in_parts(server, begin, tmp_path, size):
    from neptune.types import File

    content = bytes(index % 251 for index in range(size))
    (tmp_path / "model.bin").write_bytes(content)
    run = begin()
    run["model"].upload(str(tmp_path / "model.bin"))
    run["note"].upload(File.from_content("hello", extension="txt"))
    run.wait()
    stored = server.run("RUN-1")
    assert (stored.file("model"), stored.attributes["model"].ext) == (content, "bin")
    assert (stored.file("note"), stored.attributes["note"].ext) == (b"hello", "txt")
    assert server.count("file/upload/part") == (-(-size // 400) if size > 1000 else 0)
    assert server.store.uploads == {}


def test_a_set_of_files_grows_and_shrinks(server, begin, tmp_path):
    files = {"a.txt": b"a", "sub/b.bin": bytes(1500), "sub/c.txt": b"c"}
    for name, content in files.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(content)
    (tmp_path / "big.bin").write_bytes(bytes(range(256)) * 10)
    run = begin()
    run["many"].upload_files(str(tmp_path / "in"))
    run["one"].upload_files(str(tmp_path / "big.bin"))
    run.wait()
    stored = server.run("RUN-1")
    assert stored.files("many") == files
    assert stored.files("one") == {"big.bin": bytes(range(256)) * 10}
    run["many"].delete_files("sub")
    run.wait()
    assert stored.files("many") == {"a.txt": b"a"}


def test_what_is_deleted_or_cleared_is_gone(server, begin):
    from neptune.types import FloatSeries

    run = begin()
    run["a"] = 1
    run["loss"].extend([1.0, 2.0])
    run["names"].add(["x", "y"])
    run.wait()
    stored = server.run("RUN-1")
    assert set(stored.logged) == {"a", "loss", "names"}
    del run["a"]
    run["loss"] = FloatSeries([3.0], min=0, unit="nats")
    run["names"].clear()
    run.wait()
    assert set(stored.logged) == {"loss", "names"}
    assert [point.value for point in stored.series("loss")] == [3.0]
    assert stored.attributes["loss"].config == {"min": 0, "max": None, "unit": "nats"}
    assert stored.strings("names") == set()
    run["a"] = "another type"
    run.wait()
    assert stored.value("a") == "another type"


def test_an_attribute_is_copied(server, begin):
    run = begin()
    run["lr"] = 0.1
    run.wait()
    run["copy"] = run["lr"]
    run.wait()
    assert server.run("RUN-1").value("copy") == 0.1


def test_single_values_are_read_back(begin):
    run = begin(tags=["a", "b"], name="named")
    run["params"] = {"lr": 1 / 3, "layers": 3, "bias": False, "act": "relu"}
    run["when"] = MOMENT
    run.wait()
    assert run["params"].fetch() == {"lr": 1 / 3, "layers": 3, "bias": False, "act": "relu"}
    assert [run["params"][name].fetch() for name in ("lr", "layers", "bias", "act")] == [1 / 3, 3, False, "relu"]
    assert (run["when"].fetch(), run["sys/tags"].fetch(), run["sys/name"].fetch()) == (MOMENT, {"a", "b"}, "named")
    assert (run.exists("params/lr"), run.exists("params/none"), run["sys/id"].fetch()) == (True, False, "RUN-1")
    assert run.fetch()["sys"]["state"] == "running"


def test_long_series_are_read_back(begin):
    run = begin()
    values = [step / 7 for step in range(2300)]
    run["loss"].extend(values, steps=list(range(2300)), timestamps=[1e9 + step for step in range(2300)])
    run["text"].extend(["a", "b"], steps=[3, 4], timestamps=[1.0, 2.0])
    run.wait()
    table = run["loss"].fetch_values(progress_bar=False)
    assert (list(table["value"]), list(table["step"])) == (values, list(range(2300)))
    assert [moment.timestamp() for moment in table["timestamp"]] == [1e9 + step for step in range(2300)]
    assert (run["loss"].fetch_last(), run["text"].fetch_last()) == (values[-1], "b")
    assert list(run["text"].fetch_values(progress_bar=False)["value"]) == ["a", "b"]


def test_files_are_read_back(begin, tmp_path):
    from neptune.types import File

    run = begin()
    run["note"].upload(File.from_content("hello", extension="txt"))
    for shade in (0, 255):
        run["pictures"].append(Image.new("L", (3, 2), shade))
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text(name)
    run["set"].upload_files([str(tmp_path / "a.txt"), str(tmp_path / "b.txt")])
    run.wait()
    (tmp_path / "out").mkdir()
    run["note"].download(str(tmp_path / "out"), progress_bar=False)
    assert ((tmp_path / "out/note.txt").read_text(), run["note"].fetch_extension()) == ("hello", "txt")
    run["pictures"].download(str(tmp_path / "pictures"), progress_bar=False)
    shades = [Image.open(tmp_path / f"pictures/{index}.png").getpixel((0, 0)) for index in (0, 1)]
    assert shades == [0, 255]
    run["set"].download(str(tmp_path / "set.zip"), progress_bar=False)
    with zipfile.ZipFile(tmp_path / "set.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {"a.txt": b"a", "b.txt": b"b"}
    assert [(each.name, each.size, each.file_type) for each in run["set"].list_fileset_files()] == [
        ("a.txt", 1, "file"),
        ("b.txt", 1, "file"),
    ]


def test_the_table_of_runs_can_be_sorted_and_searched(begin, project):
    for number, tags in enumerate([["a"], ["b"], ["a", "b"]]):
        run = begin(tags=tags)
        run["score"] = float(number)
        run["loss"].append(number * 2.0)
        run.wait()
    table = project.fetch_runs_table(columns=["sys/id", "score", "loss"], sort_by="score", progress_bar=False).to_rows()
    assert [(row["sys/id"].get(), row["score"].get(), row["loss"].get()) for row in table] == [
        ("RUN-3", 2.0, 4.0),
        ("RUN-2", 1.0, 2.0),
        ("RUN-1", 0.0, 0.0),
    ]
    found = {
        "tag": project.fetch_runs_table(tag=["a", "b"], progress_bar=False),
        "id": project.fetch_runs_table(id=["RUN-1", "RUN-2"], ascending=True, progress_bar=False),
        "state": project.fetch_runs_table(state="inactive", progress_bar=False),
        "query": project.fetch_runs_table(query="(`score`:float > 0.5)", limit=1, progress_bar=False),
    }
    assert {key: [row["sys/id"].get() for row in rows.to_rows()] for key, rows in found.items()} == {
        "tag": ["RUN-3"],
        "id": ["RUN-1", "RUN-2"],
        "state": [],
        "query": ["RUN-3"],
    }


@pytest.mark.parametrize("attach", [{"custom_run_id": "own"}, {"with_id": "RUN-1"}])
def test_another_process_continues_a_run(server, tmp_path, attach):
    environment = server.environment(tmp_path)
    first = """
        run = begin(custom_run_id="own", name="first")
        run["loss"].append(1.0, step=0, timestamp=1.0)
        run.stop()
        print(run._sys_id)
    """
    second = f"""
        run = begin(**{attach})
        run["loss"].append(0.5, step=1, timestamp=2.0)
        run.stop()
        print(run._sys_id)
    """
    printed = [python(environment, code, tmp_path).splitlines()[-1] for code in (first, second)]
    assert printed == ["RUN-1", "RUN-1"]
    assert server.run("own").series("loss") == [(1.0, 0, 1000), (0.5, 1, 2000)]
    assert len(server.store.runs) == 1


def test_one_refused_operation_leaves_the_others(server, begin):
    from neptune.exceptions import MetadataInconsistency
    from neptune.internal.container_type import ContainerType
    from neptune.internal.operation import AssignInt, AssignString

    run = begin(mode="sync")
    run["n"] = 1
    done, errors = run._backend.execute_operations(
        run._id,
        ContainerType.RUN,
        [AssignString(["n"], "text"), AssignInt(["m"], 2)],
        run._op_processor.operation_storage,
    )
    assert done == 2
    assert [type(error) for error in errors] == [MetadataInconsistency]
    assert "Cannot perform assign string operation on n: Attribute is not a string" in str(errors[0])
    assert server.run("RUN-1").values() == {"n": 1, "m": 2}


@pytest.mark.parametrize("fault", [status(500), status(503), status(429), dropped])
def test_what_was_not_stored_is_sent_again(server, begin, fault):
    run = begin()
    run.wait()
    before = server.count("attributes/operations")
    server.fail("attributes/operations", fault, times=1)
    run["loss"].append(1.0, step=3, timestamp=1.0)
    run.wait()
    assert server.run("RUN-1").series("loss") == [(1.0, 3, 1000)]
    assert server.count("attributes/operations") == before + 2


def test_what_is_sent_twice_is_stored_twice(server, begin):
    run = begin()
    run.wait()
    server.fail("attributes/operations", lost, times=1)
    run["loss"].append(1.0, step=3, timestamp=1.0)
    run.wait()
    assert server.run("RUN-1").series("loss") == [(1.0, 3, 1000)] * 2


def test_steps_must_increase_where_the_server_wants_it(begin):
    from neptune.exceptions import MetadataInconsistency

    with NeptuneServer(increasing_steps=True) as server:
        run = begin(mode="sync", api_token=server.api_token)
        run["loss"].append(1.0, step=3, timestamp=1.0)
        with pytest.raises(MetadataInconsistency, match=r"strictly increasing .* loss. Invalid point: 3"):
            run["loss"].append(2.0, step=3, timestamp=2.0)
        run["loss"].append(3.0, step=4, timestamp=3.0)
        assert server.run("RUN-1").series("loss") == [(1.0, 3, 1000), (3.0, 4, 3000)]
        run.stop()


def test_a_server_that_was_away_is_found_again(server, begin):
    run = begin(flush_period=0.1)
    run.wait()
    server.fail("attributes/operations", dies, times=1)
    run["loss"].append(1.0, step=0, timestamp=1.0)
    server.until(lambda server: not server.is_running)
    server.start()
    run.wait()
    assert server.run("RUN-1").series("loss") == [(1.0, 0, 1000)]


@pytest.mark.parametrize(
    ("fault", "stored"),
    [(late(30), 2), (stalled(30), 1)],
    ids=["an answer that is late doubles", "a stalled server has stored nothing"],
)
def test_a_request_that_takes_too_long_is_sent_again(server, tmp_path, fault, stored):
    code = """
        run = begin()
        run.wait()
        run["loss"].append(1.0, step=0, timestamp=1.0)
        run.wait()
    """
    server.fail("attributes/operations", fault, times=1, body="logFloats")
    began = time.monotonic()
    python({**server.environment(tmp_path), "NEPTUNE_REQUEST_TIMEOUT": "1"}, code, tmp_path)
    assert server.run("RUN-1").series("loss") == [(1.0, 0, 1000)] * stored
    assert time.monotonic() - began < SOON


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("mode", ["async", "sync"])
@pytest.mark.parametrize(
    ("code", "error"),
    [(400, "ClientHttpError"), (401, "Unauthorized"), (403, "Forbidden"), (422, "NeptuneLimitExceedException")],
)
def test_what_no_retry_mends_ends_the_client(server, begin, code, error, mode):
    run = begin(mode=mode)
    server.fail("attributes/operations", status(code, '{"title": "no"}', content_type="application/json"), body="logF")
    with pytest.raises(Exception) as raised:  # noqa: PT011 - which one it is comes below
        run["loss"].append(1.0, wait=True)
    assert raised.typename == (error if mode == "sync" else "NeptuneSynchronizationAlreadyStoppedException")
    assert server.run("RUN-1").logged == {}


def test_who_has_no_accepted_key_is_told_so(server, begin):
    from neptune.common.exceptions import NeptuneInvalidApiTokenException

    with pytest.raises(NeptuneInvalidApiTokenException):
        begin(api_token=api_token(server.url, "wrong"))
    assert server.store.runs == {}


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"project": "tester/none"}, "ProjectNotFoundWithSuggestions"),
        ({"project": "nobody/project"}, "ProjectNotFoundWithSuggestions"),
        ({"with_id": "RUN-9"}, "RunNotFound"),
    ],
)
def test_what_is_not_there_is_not_found(begin, options, error):
    from neptune.common.exceptions import NeptuneException

    with pytest.raises(NeptuneException) as raised:
        begin(**options)
    assert raised.typename == error


def test_a_key_that_is_revoked_ends_what_was_begun(server, begin):
    from neptune.common.exceptions import Unauthorized

    run = begin(mode="sync")
    run["a"] = 1
    server.store.sessions.revoke()
    with pytest.raises(Unauthorized):
        run["a"] = 2
    server.store.sessions.keys.add(server.api_key)
    run["a"] = 3
    assert server.run("RUN-1").value("a") == 3


def test_a_token_that_ends_is_renewed(begin):
    with NeptuneServer(token_lifetime=1.0) as server:
        run = begin(mode="sync", api_token=server.api_token)
        run["a"] = 1
        first = set(server.store.sessions.access_tokens)
        time.sleep(1.1)
        run["a"] = 2
        assert server.run("RUN-1").value("a") == 2
        assert set(server.store.sessions.access_tokens) > first
        run.stop()


def test_a_token_that_has_ended_is_refused(server, begin):
    begin(mode="sync")
    (token, *_) = server.store.sessions.access_tokens
    server.store.sessions.expire()
    request = urllib.request.Request(
        f"{server.url}/api/backend/v1/organizations2", headers={"Authorization": f"Bearer {token}"}
    )
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(request, timeout=A_WHILE)
    assert (raised.value.code, json.load(raised.value)["errorType"]) == (401, "AUTHORIZATION_TOKEN_EXPIRED")


def test_a_server_of_another_process_serves_too(begin):
    with separate_neptune() as environment:
        token = environment["NEPTUNE_API_TOKEN"]
        begin(mode="sync", api_token=token)["a"] = 1.5
        assert begin(mode="read-only", api_token=token, with_id="RUN-1")["a"].fetch() == 1.5

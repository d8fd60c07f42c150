"""The mock of Neptune's server, with the real SDK."""

import neptune
import pytest
from plugins.neptune.conftest import QUIET
from servers.neptune_server import NeptuneServer, separate_neptune

from rankzero.testing.faults import lost


@pytest.fixture
def server():
    with NeptuneServer(part_sizes=(1000, 400)) as server:
        yield server
        assert server.problems == []


@pytest.fixture
def begin(here):
    """Begin runs in this process, which end with the test."""
    made = []

    def begin_run(**options):
        made.append(neptune.init_run(**QUIET, **options))
        return made[-1]

    yield begin_run
    for run in made:
        run.stop(seconds=5)


@pytest.mark.parametrize("size", [1000, 2345])
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


def test_data_sent_twice_is_stored_twice(server, begin):
    run = begin()
    run.wait()
    server.fail("attributes/operations", lost, times=1)
    run["loss"].append(1.0, step=3, timestamp=1.0)
    run.wait()
    assert server.run("RUN-1").series("loss") == [(1.0, 3, 1000)] * 2


def test_steps_must_increase_if_the_server_requires_it(begin):
    from neptune.exceptions import MetadataInconsistency

    with NeptuneServer(increasing_steps=True) as server:
        run = begin(mode="sync", api_token=server.api_token)
        run["loss"].append(1.0, step=3, timestamp=1.0)
        with pytest.raises(MetadataInconsistency, match=r"strictly increasing .* loss. Invalid point: 3"):
            run["loss"].append(2.0, step=3, timestamp=2.0)
        run["loss"].append(3.0, step=4, timestamp=3.0)
        assert server.run("RUN-1").series("loss") == [(1.0, 3, 1000), (3.0, 4, 3000)]
        run.stop()


def test_a_server_in_another_process(begin):
    with separate_neptune() as environment:
        token = environment["NEPTUNE_API_TOKEN"]
        begin(mode="sync", api_token=token)["a"] = 1.5
        assert begin(mode="read-only", api_token=token, with_id="RUN-1")["a"].fetch() == 1.5

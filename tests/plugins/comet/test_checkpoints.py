"""Delivery of files, artifacts and checkpoints: content, versions, aliases, download."""

import json
from pathlib import Path

import pytest

from rankzero.events.run_info import LogContext

WEIGHTS = bytes(range(256)) * 1000 + b"\r\n--\r\n"


def version(server, name):
    """Return the files of a complete version."""
    found = server.artifact_version(name)
    assert found.state == "CLOSED"
    return found


def write(path, content=WEIGHTS):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# Files


def test_a_file(attached, stored, tmp_path):
    with attached.at(LogContext(1_700_000_000.5)):
        attached.log_artifact(write(tmp_path / "data.bin"), metadata={"rows": 3, "nested": {"a": [1]}})
    (asset,) = stored().assets
    assert (asset.type, asset.name, asset.step, asset.content) == ("asset", "data.bin", None, WEIGHTS)
    assert asset.metadata == {"rows": 3, "nested": {"a": [1]}, "logged_at": 1_700_000_000.5}


@pytest.mark.parametrize(
    ("name", "kept"), [("folder/a b ü", "folder/a b ü.bin"), ("other.bin", "other.bin"), ("v1.0", "v1.0.bin")]
)
def test_a_file_with_another_name(attached, stored, tmp_path, name, kept):
    attached.log_artifact(str(write(tmp_path / "data.bin")), name=name, type="dataset")
    (asset,) = stored().assets
    assert (asset.name, asset.content, asset.metadata["type"]) == (kept, WEIGHTS, "dataset")


def test_an_empty_file_and_one_that_is_sent_twice(attached, stored, tmp_path):
    for _ in range(2):
        attached.log_artifact(write(tmp_path / "empty", b""))
    assert [asset.content for asset in stored().files("empty")] == [b"", b""]


def test_a_directory(attached, stored, tmp_path):
    write(tmp_path / "d" / "a.bin")
    write(tmp_path / "d" / "deep" / "er" / "b", b"b")
    attached.log_artifact(tmp_path / "d", name="data")
    assert {asset.name: asset.content for asset in stored().assets} == {"data/a.bin": WEIGHTS, "data/deep/er/b": b"b"}


def test_a_file_of_an_artifact_has_its_name(attached, server, tmp_path):
    attached.log_artifact(write(tmp_path / "9a12.bin"), name="weights", aliases=["best"])
    assert version(server, "weights:best").files == {"weights.bin": WEIGHTS}


def test_an_artifact_has_versions_and_aliases(attached, server, stored, tmp_path):
    for number, aliases in enumerate([["v1", "latest"], ["latest"]]):
        write(tmp_path / "d" / "a", b"%d" % number)
        write(tmp_path / "d" / "deep" / "b", b"b")
        attached.log_artifact(tmp_path / "d", name="my data", type="dataset", aliases=aliases, metadata={"n": number})
    assert version(server, "my data:v1").files == {"a": b"0", "deep/b": b"b"}
    assert version(server, "my data:latest").files == {"a": b"1", "deep/b": b"b"}
    assert json.loads(version(server, "my data:v1").metadata)["n"] == 0
    assert server.artifact("my data").type == "dataset"
    assert version(server, "my data:v1").experiment_key == stored().key


# Checkpoints


def test_checkpoints_are_versions_whose_aliases_move(attached, server, run_info, tmp_path):
    path = tmp_path / "a.ckpt"
    for number, aliases in enumerate([["latest", "best"], ["latest", "swa"], ["latest", "best"], []]):
        write(path, b"%d" % number)
        with attached.at(LogContext(number + 0.5)):
            attached.log_checkpoint(
                path, score=number / 2, step=number * 10, aliases=aliases, metadata={"monitor": "loss"}
            )
    name = f"model-{run_info.id}"
    assert server.artifact(name).type == "model"
    assert [list(each.files.values()) for each in server.artifact(name).versions] == [[b"0"], [b"1"], [b"2"], [b"3"]]
    assert [sorted(each.aliases) for each in server.artifact(name).versions] == [[], ["swa"], ["best", "latest"], []]
    best = version(server, f"{name}:best")
    assert best.files == {"a.ckpt": b"2"}
    assert json.loads(best.metadata) == {
        "score": 1.0, "step": 20, "original_filename": "a.ckpt", "monitor": "loss", "logged_at": 2.5
    }  # fmt: skip


def test_a_checkpoint_is_read_back(attached, tmp_path):
    for number, aliases in enumerate([["best"], ["latest"]]):
        attached.log_checkpoint(write(tmp_path / "a.ckpt", WEIGHTS + b"%d" % number), aliases=aliases)
    best = attached.download_checkpoint()
    latest = attached.download_checkpoint("latest", tmp_path / "new" / "folder")
    assert Path(best).read_bytes() == WEIGHTS + b"0"
    assert latest == str(tmp_path / "new" / "folder" / "a.ckpt")
    assert Path(latest).read_bytes() == WEIGHTS + b"1"


def test_a_checkpoint_is_read_back_by_another_logger(attached, make_logger, run_info, tmp_path):
    attached.log_checkpoint(write(tmp_path / "a.ckpt"), aliases=["best"])
    reader = make_logger(experiment_key=run_info.id)
    assert Path(reader.download_checkpoint("best", tmp_path / "read")).read_bytes() == WEIGHTS


@pytest.mark.parametrize("alias", ["best", "swa"])
def test_an_unknown_alias(attached, run_info, tmp_path, alias):
    attached.log_checkpoint(write(tmp_path / "a.ckpt"), aliases=["latest"])
    with pytest.raises(LookupError, match=f"no version of the artifact 'model-{run_info.id}' has the alias '{alias}'"):
        attached.download_checkpoint(alias)


def test_a_run_without_checkpoints(attached):
    with pytest.raises(LookupError, match="has the alias 'best'"):
        attached.download_checkpoint()


@pytest.mark.parametrize("names", [["meta.pt", "shards/0.distcp"], ["only.pt"]], ids=["several", "one"])
def test_a_checkpoint_that_is_a_directory(attached, server, run_info, tmp_path, names):
    folder = tmp_path / "epoch=1.ckpt"
    for name in names:
        write(folder / name, name.encode())
    attached.log_checkpoint(folder, aliases=["best"])
    expected = {name: name.encode() for name in names}
    assert version(server, f"model-{run_info.id}:best").files == {
        f"epoch=1.ckpt/{name}": content for name, content in expected.items()
    }
    copy = Path(attached.download_checkpoint("best", tmp_path / "read"))
    assert copy == tmp_path / "read" / "epoch=1.ckpt"
    assert {path.relative_to(copy).as_posix(): path.read_bytes() for path in copy.rglob("*.*") if path.is_file()} == (
        expected
    )


def test_a_file_that_would_leave_the_directory_is_not_written(attached, server, run_info, tmp_path):
    attached.log_checkpoint(write(tmp_path / "a.ckpt"), aliases=["best"])
    server.artifact(f"model-{run_info.id}").versions[0].assets[0].name = "../outside"
    with pytest.raises(ValueError, match="a file that is not inside"):
        attached.download_checkpoint("best", tmp_path / "read")
    assert not (tmp_path / "outside").exists()

"""Private parts of Neptune's client that the plugin uses: a test fails if a new version changes them."""

import inspect

import pytest
import requests
from neptune.common import oauth
from neptune.common.backends import utils
from neptune.exceptions import NeptuneConnectionLostException
from neptune.internal import operation
from neptune.internal.backends import hosted_client
from neptune.internal.backends.hosted_neptune_backend import HostedNeptuneBackend
from neptune.internal.credentials import Credentials
from PIL import Image

from rankzero.events.run_info import LogContext
from rankzero.media.record import Media
from rankzero.media.store import MediaStore
from rankzero_neptune import NeptuneLogger
from rankzero_neptune.client import limited
from rankzero_neptune.fields import Point
from rankzero_neptune.session import NeptuneSession


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (HostedNeptuneBackend, ["credentials", "proxies"]),
        (
            HostedNeptuneBackend.execute_operations,
            ["container_id", "container_type", "operations", "operation_storage"],
        ),
        (HostedNeptuneBackend.get_run_url, ["run_id", "workspace", "project_name", "sys_id"]),
        (Credentials.from_token, ["api_token"]),
        (hosted_client._set_pool_size, ["http_client"]),
    ],
)
def test_signatures(function, parameters):
    assert [name for name in inspect.signature(function).parameters if name != "self"] == parameters


@utils.with_api_exceptions_handler
def ask(asked):
    asked.append("what the server does not answer")
    raise requests.ConnectionError


def test_the_limits_are_where_they_are_looked_for():
    with limited():
        with pytest.raises(NeptuneConnectionLostException):
            ask(asked := [])
        sessions = hosted_client.create_http_client(True, {}).session, oauth.OAuth2Session("id")
    assert len(asked) == 1
    for session in sessions:
        assert {type(adapter).__name__ for adapter in session.adapters.values()} == {"LimitedAdapter"}


class Recorded(NeptuneSession):
    """Keeps the operations instead of sending them."""

    def __init__(self):
        super().__init__(NeptuneLogger(), {"old/x": "int"})
        self.sent = []

    def send(self, operation):
        self.sent.append(operation)


def test_operations_are_those_that_the_client_keeps_on_disk(tmp_path):
    session, time, file = Recorded(), 1_700_000_000_001, tmp_path / "x.png"
    Image.new("L", (2, 2)).save(file)
    for number, value in enumerate((True, 3, 0.5, "x")):
        session.assign(f"single/{number}", value)
    session.send_points("floats", [Point(0.5, 3.0, time)])
    session.send_points("strings", [Point("x", 3.0, time)])
    media = Media("image", "a", [file], ["caption"], 3, open_store=lambda: MediaStore(tmp_path))
    session.write_media(media, LogContext(time / 1000))
    session.add_strings("set", ["x"])
    session.upload("file", str(file))
    session.upload_bytes("bytes", b"x", "csv")
    session.delete("old")
    assert [type(each).__name__ for each in session.sent] == [
        "AssignBool", "AssignInt", "AssignFloat", "AssignString", "LogFloats", "LogStrings", "LogImages", "AddStrings",
        "UploadFile", "UploadFileContent", "DeleteAttribute",
    ]  # fmt: skip
    assert [operation.Operation.from_dict(each.to_dict()) for each in session.sent] == session.sent
    assert session.sent[4].to_dict()["values"] == [{"value": 0.5, "step": 3.0, "ts": 1_700_000_000.0015}]


def test_uploads_are_limited_where_they_are_tried_again():
    source = inspect.getsource(HostedNeptuneBackend.execute_operations)
    assert "self._execute_upload_operations_with_400_retry(" in source

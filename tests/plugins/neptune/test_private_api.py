"""What this plugin uses of Neptune's client that the client keeps to itself: these fail when it has changed."""

import inspect

import pytest
from neptune.common import oauth
from neptune.common.backends import utils
from neptune.internal import operation
from neptune.internal.backends import hosted_client
from neptune.internal.backends.hosted_neptune_backend import HostedNeptuneBackend
from neptune.internal.credentials import Credentials

from rankzero_neptune import operations
from rankzero_neptune.bounds import bounded
from rankzero_neptune.points import Point


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


def test_the_limits_are_where_they_are_looked_for():
    before = utils.retries_timeout, hosted_client._set_pool_size, oauth.OAuth2Session
    with bounded(), bounded():
        assert utils.retries_timeout < 1
        assert hosted_client._set_pool_size is not before[1]
        assert oauth.OAuth2Session is not before[2]
        adapters = hosted_client.create_http_client(True, {}).session.adapters
    assert (utils.retries_timeout, hosted_client._set_pool_size, oauth.OAuth2Session) == before
    assert {type(adapter).__name__ for adapter in adapters.values()} == {"BoundedAdapter"}


def test_operations_are_those_that_the_client_keeps_on_disk():
    point = Point(0.5, 3.0, 1_700_000_000_001)
    made = [
        operations.assign("a/b", True),
        operations.assign("a/b", 3),
        operations.assign("a/b", 0.5),
        operations.assign("a/b", "x"),
        operations.log_floats("a/b", [point]),
        operations.log_strings("a/b", [point._replace(value="x")]),
        operations.log_image("a/b", "UE5H", "p.png", "caption", 3.0, point.time),
        operations.add_strings("a/b", ["x"]),
        operations.upload("a/b", "/tmp/x.csv", "csv"),
        operations.delete("a/b"),
    ]
    kinds = [type(each).__name__ for each in made]
    assert kinds == [
        "AssignBool", "AssignInt", "AssignFloat", "AssignString", "LogFloats", "LogStrings", "LogImages", "AddStrings",
        "UploadFile", "DeleteAttribute",
    ]  # fmt: skip
    assert [operation.Operation.from_dict(each.to_dict()) for each in made] == made
    assert made[4].to_dict()["values"] == [{"value": 0.5, "step": 3.0, "ts": 1_700_000_000.0015}]


def test_uploads_are_bounded_where_they_are_tried_again():
    source = inspect.getsource(HostedNeptuneBackend.execute_operations)
    assert "self._execute_upload_operations_with_400_retry(" in source

"""Which answers are MLflow's: a proxy, a login page or a maintenance page may say 200, too, and then nothing is stored.

MLflow's client takes an empty answer for "done", and any answer to an upload.
"""

from __future__ import annotations

import functools
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

_API = re.compile(r"/api/\d\.\d/mlflow/")

_current = threading.local()


class Answers:
    """What was answered to the requests of a call."""

    status: int | None = None
    """The HTTP status of the last answer; None if there was none."""
    has_silent_upload: bool = False
    """Whether a file was uploaded and the answer was empty, as some MLflow servers answer, and anything else may."""


class NotMlflowError(Exception):
    """Something answered that cannot be MLflow's API."""


@contextmanager
def checked_answers() -> Iterator[Answers]:
    """Check the answers to the requests that MLflow's client makes in this thread within the context.

    Raises:
        NotMlflowError: an answer is no JSON object. MLflow's client makes an ``MlflowException`` of it.
    """
    _install()
    answers = _current.answers = Answers()
    try:
        yield answers
    finally:
        _current.answers = None


@functools.cache
def _install() -> None:
    """Put a check behind the function by which MLflow's client makes all its requests to a tracking server."""
    from mlflow.utils import rest_utils

    request = rest_utils._get_http_response_with_retries

    @functools.wraps(request)
    def checked(method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        answers: Answers | None = getattr(_current, "answers", None)
        if answers is None:
            return request(method, url, *args, **kwargs)
        answers.status = None
        response = request(method, url, *args, **kwargs)
        answers.status = response.status_code
        path = urlsplit(url).path
        is_upload = method.upper() != "GET" and "/mlflow-artifacts/" in path  # artifacts may be on other web servers
        if response.ok and (is_upload or _API.search(path)):
            if is_upload and not response.text:
                answers.has_silent_upload = True
            elif not _is_json_object(response):
                start = repr(response.text[:200])
                raise NotMlflowError(f"the answer is not MLflow's (status {response.status_code}): {start}")
        return response

    rest_utils._get_http_response_with_retries = checked


def _is_json_object(response: Any) -> bool:
    try:
        return isinstance(json.loads(response.text), dict)
    except ValueError:
        return False

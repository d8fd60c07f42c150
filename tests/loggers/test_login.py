"""`Login`: which answers refuse a key, and where the key is sent."""

import socket
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from rankzero.errors import ConfigError
from rankzero.loggers.login import Login

LOGIN = Login(
    tracker="Tracker",
    key="API key",
    how="run `tracker login`",
    offline="offline=True",
    path="/who",
    headers=lambda key: {"Authorization": key},
    is_refusal=lambda answer: answer["user"] is None,
    note="It costs nothing.",
)


@contextmanager
def server(status, answer=b'{"user": "me"}', **headers):
    """Answer every request with a status; give the URL and what was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append((self.command, self.path, self.headers["Authorization"], body))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = Thread(target=listening.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}/", asked
        listening.shutdown()
        thread.join()


def is_refused(url):
    try:
        LOGIN.check(url, "secret")
    except ConfigError as error:
        return str(error) == f"{url.split('/')[2]} refuses the Tracker API key: run `tracker login`"
    return False


@pytest.mark.parametrize(("status", "refused"), [(200, False), (401, True), (403, False), (404, False), (500, False)])
def test_only_401_is_a_refusal(status, refused):
    with server(status) as (url, asked):
        assert is_refused(url) is refused
    assert asked == [("GET", "/who", "secret", b"")]


@pytest.mark.parametrize(
    ("answer", "refused"),
    [(b'{"user": null}', True), (b"<html>", False), (b"[]", False), (b"{}", False), (b"null", False)],
)
def test_a_tracker_may_refuse_in_a_response_with_status_200(answer, refused):
    with server(200, answer) as (url, _):
        assert is_refused(url) is refused


def test_a_body_is_posted_as_json():
    with server(200) as (url, asked):
        assert LOGIN.check(url, "secret", {}) == {"user": "me"}
    assert asked == [("POST", "/who", "secret", b"{}")]


def test_the_key_does_not_follow_a_redirect():
    with server(200) as (elsewhere, redirected), server(302, Location=elsewhere) as (url, asked):
        assert not is_refused(url)
    assert (len(asked), redirected) == (1, [])


def test_a_server_that_hangs_is_not_waited_for(monkeypatch):
    monkeypatch.setattr("rankzero.loggers.login._TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        assert LOGIN.check(f"http://127.0.0.1:{hanging.getsockname()[1]}", "secret") is None


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "no url"])
def test_a_missing_answer_does_not_reject_the_login(url):
    assert LOGIN.check(url, "secret") is None


@pytest.mark.parametrize("key", [None, ""])
def test_the_error_for_a_missing_key_describes_the_login(key):
    assert LOGIN.require("secret") == "secret"
    with pytest.raises(ConfigError) as raised:
        LOGIN.require(key)
    assert str(raised.value) == (
        "not logged in to Tracker: run `tracker login`; or start with offline=True and deliver later with "
        "rankzero sync. It costs nothing."
    )

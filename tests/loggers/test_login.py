"""The question whether a server knows the user: what counts as no, and who is told who asks."""

from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from rankzero.loggers.login import ask, is_refused

WHO = {"Authorization": "secret"}


@contextmanager
def server(status, **headers):
    """Answer every request with a status; give the URL and what was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append((self.command, self.headers["Authorization"], body))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"answer")

        do_POST = do_GET

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = Thread(target=listening.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}/", asked
        listening.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "refused"), [(200, False), (401, True), (403, False), (404, False), (500, False)])
def test_only_an_unknown_user_is_refused(status, refused):
    with server(status) as (url, asked):
        assert is_refused(url, WHO) is refused
    assert asked == [("GET", "secret", b"")]


def test_something_may_be_posted():
    with server(200) as (url, asked):
        assert ask(url, WHO, b"{}") == b"answer"
    assert asked == [("POST", "secret", b"{}")]


def test_nobody_else_is_told_who_asks():
    with server(200) as (elsewhere, told), server(302, Location=elsewhere) as (url, asked):
        assert not is_refused(url, WHO)
    assert (len(asked), told) == (1, [])


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "no url"])
def test_no_answer_is_no_refusal(url):
    assert not is_refused(url, WHO)

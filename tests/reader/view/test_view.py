"""The live page: access, requests, and growing curves in a browser."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from urllib.request import urlopen

import pytest
from reader.page.scenes import BEGAN, rows, write_full_run, write_run
from recorded import write

from rankzero.events.structs import Metrics, Params, Rewind, Tags, Text
from rankzero.rundir.layout import JOURNAL

testclient = pytest.importorskip("starlette.testclient")
TOKEN = "a-token"


@pytest.fixture
def client(tmp_path):
    from rankzero.reader.view.server import make_app

    app = make_app(tmp_path, TOKEN)
    with testclient.TestClient(app, base_url="http://127.0.0.1:8265", raise_server_exceptions=True) as client:
        yield client


def news(client, **read):
    answer = client.post(
        f"/{TOKEN}/news", content=json.dumps({key.removeprefix("run"): value for key, value in read.items()})
    )
    assert answer.status_code == 200
    return answer.json()


def test_the_page_has_its_policy(client, tmp_path):
    write_run(tmp_path, *rows(5))
    page = client.get(f"/{TOKEN}/")
    assert page.status_code == 200
    assert "connect-src 'self'" in page.headers["content-security-policy"]
    assert page.headers["x-frame-options"] == "DENY"
    assert page.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/", {}),
        ("/wrong/", {}),
        (f"/{TOKEN}x/", {}),
        (f"/{TOKEN}/", {"host": "evil.example:8265"}),
        (f"/{TOKEN}/", {"host": "127.0.0.1:1"}),
        (f"/{TOKEN}/", {"origin": "http://evil.example"}),
        (f"/{TOKEN}/", {"origin": "null"}),
        (f"/{TOKEN}/curves?name=train/loss", {"origin": "http://127.0.0.1:9999"}),
    ],
)
def test_others_are_refused(client, path, headers):
    assert client.get(path, headers=headers).status_code == 403


def test_localhost_and_the_own_origin_are_served(client, tmp_path):
    write_run(tmp_path, *rows(5))
    headers = {"host": "localhost:8265", "origin": "http://localhost:8265"}
    assert client.get(f"/{TOKEN}/", headers=headers).status_code == 200


def test_only_new_data_is_sent(client, tmp_path):
    run_dir = write_run(tmp_path, *rows(1000))
    entry = news(client)["0"]
    assert (entry["name"], entry["lines"]) == ("amber-otter-1", 1002)
    read = [entry["offset"], entry["lines"]]
    again = news(client, run0=read)["0"]
    assert (again["points"], [again["offset"], again["lines"]]) == ({}, read)
    write(
        run_dir,
        Metrics(BEGAN + 2000, 1000, {"train/loss": 0.5}, epoch=7),
        Metrics(BEGAN + 2001, None, {"new": float("nan")}),
    )
    answer = client.post(f"/{TOKEN}/news", content=json.dumps({"0": read}))
    assert len(answer.content) < 1000
    grown = answer.json()["0"]
    assert grown["points"] == {
        "train/loss": [[1002, 1000, BEGAN + 2000, 7, 0.5]],
        "new": [[1003, None, BEGAN + 2001, None, "NaN"]],
    }
    assert (grown["summary"]["train/loss"][:3], grown["took"]) == ([1001, 0.5, 1000], 2001)
    assert "params" not in grown


def test_other_events_send_the_entry_and_a_rewind_sends_the_curves_anew(client, tmp_path):
    run_dir = write_run(tmp_path, *rows(10))
    entry = news(client)["0"]
    write(run_dir, Params(BEGAN + 20, {"later": 1}), Tags(BEGAN + 20, ["x"]))
    grown = news(client, run0=[entry["offset"], entry["lines"]])["0"]
    assert (grown["params"], grown["tags"], grown["redraw"]) == ({"later": 1}, ["x"], False)
    write(run_dir, Rewind(BEGAN + 30, 3))
    assert news(client, run0=[grown["offset"], grown["lines"]])["0"]["redraw"] is True


def test_a_journal_that_shrank_or_has_grown_by_much_is_sent_anew(client, tmp_path, monkeypatch):
    run_dir = write_run(tmp_path, *rows(10))
    entry = news(client)["0"]
    assert news(client, run0=[entry["offset"] + 1, entry["lines"]])["0"]["redraw"] is True
    monkeypatch.setattr("rankzero.reader.view.live._MOST_BYTES", 10)
    write(run_dir, *rows(3))
    grown = news(client, run0=[entry["offset"], entry["lines"]])["0"]
    assert (grown["redraw"], grown["lines"]) == (True, entry["lines"] + 3)


def test_new_runs_are_found_and_keep_their_numbers(client, tmp_path, monkeypatch):
    monkeypatch.setattr("rankzero.reader.view.live._SEARCHED_EVERY", 0)
    write_run(tmp_path / "b", *rows(3), number=5, name="first")
    assert {key: each["name"] for key, each in news(client).items()} == {"0": "first"}
    write_run(tmp_path / "a", *rows(3), number=1, name="second")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / JOURNAL).write_text("")
    assert {key: each["name"] for key, each in news(client).items()} == {"0": "first", "1": "second"}


def test_details_have_the_data_logged_since_the_last_request(client, tmp_path):
    run_dir = write_run(tmp_path, Text(BEGAN, "note", ["value"], [["first"]], 1))
    client.get(f"/{TOKEN}/")
    write(run_dir, Text(BEGAN, "note", ["value"], [["second"]], 2))
    (note,) = client.get(f"/{TOKEN}/details/0").json()["media"]
    assert [item["rows"] for item in note["items"]] == [[["first"]], [["second"]]]


def test_media_are_sent_in_ranges_and_only_from_the_run(client, tmp_path):
    run_dir = write_full_run(tmp_path)
    (tmp_path / "secret.png").write_bytes(b"secret")
    (run_dir / "media" / "link.png").symlink_to(tmp_path / "secret.png")
    client.get(f"/{TOKEN}/")
    details = client.get(f"/{TOKEN}/details/0").json()
    (sound,) = (each for each in details["media"] if each["kind"] == "audio")
    part = client.get(f"/{TOKEN}/{sound['items'][0]['url']}", headers={"range": "bytes=0-3"})
    assert (part.status_code, part.content, part.headers["content-type"]) == (206, b"RIFF", "audio/wav")
    (figure,) = (each for each in details["media"] if each["kind"] == "figure")
    html = client.get(f"/{TOKEN}/{figure['items'][0]['url']}")
    assert html.headers["content-type"] == "application/octet-stream"
    assert html.headers["content-disposition"].startswith("attachment")
    assert html.headers["content-security-policy"] == "sandbox; default-src 'none'"
    for path in (
        JOURNAL, "media/link.png", "media/../journal.jsonl", "media/%2e%2e/journal.jsonl", "media//etc/passwd", "media",
        "../secret.png", "media/..%2f..%2fsecret.png",
    ):  # fmt: skip
        assert client.get(f"/{TOKEN}/media/0/{path}").status_code in (403, 404), path
    assert client.get(f"/{TOKEN}/media/7/media/a.png").status_code == 404
    assert client.get(f"/{TOKEN}/details/7").status_code == 404


def test_what_is_not_understood_is_refused(client):
    assert client.post(f"/{TOKEN}/news", content=b'{"a": 1}').status_code == 400
    assert client.get(f"/{TOKEN}/news").status_code == 405
    assert client.get(f"/{TOKEN}/curves?name=unknown").status_code == 200


def test_the_next_free_port_is_taken():
    from rankzero.reader.view.server import bind

    with bind(0) as first:
        taken = first.getsockname()[1]
        with bind(taken) as second:
            assert second.getsockname()[1] > taken
            assert second.getsockname()[0] == "127.0.0.1"


@pytest.fixture
def server(tmp_path):
    """Start `rankzero view` on a directory, and return the process and its address."""
    started = []

    def start(*arguments, **environment):
        command = [sys.executable, "-m", "rankzero.cli.app", "view", str(tmp_path), "--port", "0", *arguments]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        process = subprocess.Popen(command, env=os.environ | {"PYTHONUNBUFFERED": "1"} | environment, **streams)
        started.append(process)
        printed = []
        while not printed or not printed[-1].startswith("Ctrl-C"):
            printed.append(process.stdout.readline())
            assert printed[-1], printed
        (address,) = re.findall(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", printed[0])
        return process, address, "".join(printed)

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_the_command_names_the_tunnel_and_ctrl_c_ends_it(server, tmp_path):
    write_run(tmp_path, *rows(5))
    process, address, printed = server(SSH_CONNECTION="10.0.0.1 22 10.0.0.2 22")
    port = address.split(":")[2].split("/")[0]
    assert re.search(rf"ssh -N -L {port}:127\.0\.0\.1:{port} \S+@{re.escape(socket.gethostname())}\n", printed)
    with urlopen(address) as answer:  # it serves
        assert b"<title>runs in " in answer.read()
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert (process.returncode, rest) == (0, "")


def test_without_the_web_server_the_command_says_what_to_install(monkeypatch, tmp_path, capsys):
    import importlib.util

    from rankzero.cli.app import main

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["view", str(tmp_path)]) == 1
    assert 'pip install "rankzero[view]"' in capsys.readouterr().err
    monkeypatch.undo()
    assert main(["view", str(tmp_path / "nothing")]) == 2


@pytest.mark.slow
def test_curves_grow_in_the_browser(server, tmp_path, open_page):
    run_dir = write_full_run(tmp_path, name="growing")
    _, address, _ = server()
    page = open_page(address)
    page.locator(".chart canvas").first.wait_for()
    before = page.locator(".chart canvas").first.evaluate("canvas => canvas.toDataURL()")
    write(run_dir, *(Metrics(BEGAN + step, step, {"train/loss": 3.0}) for step in range(100, 150)))
    for _ in range(500):
        page.wait_for_timeout(20)
        if page.locator(".chart canvas").first.evaluate("canvas => canvas.toDataURL()") != before:
            break
    page.get_by_role("tab", name="Runs").click()
    page.get_by_title("3 at step 149, of 150 points").wait_for()
    write(run_dir, Metrics(BEGAN + 200, 150, {"other/metric": 1.0}))
    page.get_by_role("tab", name="Charts").click()
    page.get_by_role("article", name="other/metric").wait_for()
    write_run(tmp_path, *rows(5), name="newer", number=3)
    page.locator(".list").get_by_text("newer").wait_for()
    page.get_by_role("tab", name="Media").click()
    image = page.get_by_role("article", name="plain", exact=True).first.locator("img").first
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 1


@pytest.mark.slow
def test_the_page_says_that_the_server_has_ended(server, tmp_path, open_page):
    write_run(tmp_path, *rows(5))
    process, address, _ = server()
    page = open_page(address)
    process.kill()
    page.get_by_text("rankzero view has ended or cannot be reached").wait_for()
    assert page.get_by_text("open the new address that it prints").is_visible()
    assert all("ERR_CONNECTION_REFUSED" in problem for problem in open_page.problems)
    open_page.problems.clear()


@pytest.mark.slow
def test_media_appear_in_the_browser(server, tmp_path, open_page):
    run_dir = write_run(tmp_path, Text(BEGAN, "note", ["value"], [["first"]], 1), name="talking")
    _, address, _ = server()
    page = open_page(f"{address}#tab=media")
    note = page.get_by_role("article", name="note", exact=True)
    note.get_by_text("first").wait_for()
    note.evaluate("card => card.dataset.same = 'yes'")
    write(run_dir, Text(BEGAN, "note", ["value"], [["second"]], 2))
    note.get_by_text("second").wait_for()
    assert note.locator("output").inner_text() == "step 2"
    note.get_by_role("slider").fill("0")
    write(run_dir, Text(BEGAN, "note", ["value"], [["third"]], 3))
    note.locator("input[max='2']").wait_for()
    assert note.locator("output").inner_text() == "step 1"  # which the user has chosen
    assert note.get_by_text("first").is_visible()
    assert note.get_attribute("data-same") == "yes"  # cards are not made anew, so that a video plays on
    write(run_dir, Text(BEGAN, "other", ["value"], [["new"]], 3))
    page.get_by_role("article", name="other", exact=True).get_by_text("new").wait_for()

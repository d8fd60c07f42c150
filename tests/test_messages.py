"""Messages: the reason why a delivery fails, and hints for names of other tools."""

import re
from pathlib import Path

import pytest

import rankzero
from rankzero.messages import OTHER_NAMES, reason

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "coming-from.md"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("init", r"has no attribute 'init'. Write run = rankzero.start\("),
        ("log", r"Write run.log_metrics\("),
        ("strat", "Did you mean 'start'?"),
        ("nothing_like_it", r"'nothing_like_it'\.$"),
    ],
)
def test_a_wrong_name_of_the_package(name, sentence):
    with pytest.raises(AttributeError, match=sentence):
        getattr(rankzero, name)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("log", r"a Run has no attribute 'log'. Write run.log_metrics\("),
        ("add_scalar", r"Write run.log_metrics\("),
        ("nothing_like_it", "'nothing_like_it'$"),
    ],
)
def test_a_wrong_name_of_a_run(tmp_path, name, sentence):
    with rankzero.start(dir=tmp_path, delivery="off") as run, pytest.raises(AttributeError, match=sentence):
        getattr(run, name)


def test_names_of_other_tools_are_not_completed(tmp_path):
    with rankzero.start(dir=tmp_path, delivery="off") as run:
        names = dir(run)
    assert not {"log", "add_scalar", "config"} & {*names}
    assert {"log_metrics", "alert", "finish", "finish_timeout"} <= {*names}


@pytest.mark.parametrize(
    "text", [*OTHER_NAMES.values(), PAGE.read_text().partition("## ")[2]], ids=lambda text: text[:30]
)
def test_what_is_recommended_exists(text):
    calls = re.findall(r"\brun\.(\w+)", text)
    names = re.findall(r"\brankzero\.(\w+)", text)
    assert calls or names
    assert [name for name in calls if not hasattr(rankzero.Run, name)] == []
    assert [name for name in names if name not in ("toml", "integrations") and not hasattr(rankzero, name)] == []


_POOL = "HTTPConnectionPool(host='127.0.0.1', port=9): Max retries exceeded with url: /api/2.0 (Caused by "
_REFUSED = f'{_POOL}NewConnectionError("HTTPConnection(...): Failed to establish: [Errno 111] Connection refused"))'


@pytest.mark.parametrize(
    ("problem", "shown"),
    [
        (f"TrackerUnavailableError: API request to http://127.0.0.1:9/api/2.0 failed with exception {_REFUSED}",
         "cannot reach http://127.0.0.1:9: connection refused"),
        (f"process 7 on a delivers it: requests.ConnectionError: {_REFUSED}",
         "process 7 on a delivers it: cannot reach 127.0.0.1:9: connection refused"),
        ("ReadTimeout: https://me:secret@box.org/a timed out", "cannot reach https://box.org: no answer in time"),
        ("AccessError: no such\nproject; see https://box.org", "AccessError: no such project; see https://box.org"),
        ("PermissionError: the pin is wrong", "PermissionError: the pin is wrong"),
        ("x" * 500, "x" * 399 + "…"),
    ],
)  # fmt: skip
def test_reason(problem, shown):
    assert reason(problem) == shown

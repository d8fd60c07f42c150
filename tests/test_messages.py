"""What is said to people whose fingers know another tool."""

import re
from pathlib import Path

import pytest

import rankzero
from rankzero.messages import _OTHER_NAMES

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
        ("log_metrcs", "Did you mean 'log_metrics'?"),
        ("nothing_like_it", r"'nothing_like_it'\.$"),
    ],
)
def test_a_wrong_name_of_a_run(tmp_path, name, sentence):
    with rankzero.start(dir=tmp_path, delivery="off") as run, pytest.raises(AttributeError, match=sentence):
        getattr(run, name)


@pytest.mark.parametrize(
    "text", [*_OTHER_NAMES.values(), PAGE.read_text().partition("## ")[2]], ids=lambda text: text[:30]
)
def test_what_is_recommended_exists(text):
    calls = re.findall(r"\brun\.(\w+)", text)
    names = re.findall(r"\brankzero\.(\w+)", text)
    assert calls or names
    assert [name for name in calls if not hasattr(rankzero.Run, name)] == []
    assert [name for name in names if name not in ("toml", "integrations") and not hasattr(rankzero, name)] == []

"""The page lists exactly the differences: each row has a test here."""

import ast
from pathlib import Path

import pytest
from integrations.drop_in.page import TRACKERS, differences

HERE = Path(__file__).parent


def texts():
    """Return the texts that stand in the tests here, and of texts with something in them the rest."""
    for path in HERE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value.strip()


def test_each_row_is_compared():
    topics = {topic for rows in differences().values() for topic in rows}
    known = set(texts())
    beginnings = {(*topic.rpartition(f" {end}"),) for topic in topics for end in known if topic.endswith(f" {end}")}
    known |= {begin + end for begin, end, _ in beginnings if begin in known}
    assert topics - known == set()
    assert differences().keys() == set(TRACKERS.values())


def test_lightning_has_no_neptune_logger_any_more():
    from lightning.pytorch.loggers.neptune import NeptuneLogger

    with pytest.raises(RuntimeError, match="no longer supported"):
        NeptuneLogger()

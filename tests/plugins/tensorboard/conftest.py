"""Loggers in direct use, which are closed when the test ends."""

import pytest

from rankzero_tensorboard import TensorBoardLogger


@pytest.fixture
def make_logger(tmp_path, closing):
    """Make loggers that write to ``tmp_path``."""
    return lambda *args, **options: closing(TensorBoardLogger(*(args or [tmp_path]), **options))


@pytest.fixture
def logger(make_logger):
    return make_logger()

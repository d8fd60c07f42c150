"""A run of whose data only the journal is looked at."""

import pytest

import rankzero


@pytest.fixture
def run(tmp_path):
    with rankzero.start(dir=tmp_path / "runs", delivery="off") as run:
        yield run

"""`MemoryLogger` passes the contract, except for the capabilities of trackers."""

import pytest

from rankzero.testing import ALL, LoggerContract, MemoryLogger


class TestMemoryLogger(LoggerContract):
    capabilities = ALL - {"exactly_once"}

    @pytest.fixture(autouse=True)
    def _tracker(self):
        self.calls = []

    def make_logger(self, tmp_path):
        return MemoryLogger(self.calls)

    def read_back(self, logger):
        return logger.tracked()

"""For authors of plugins: `LoggerContract`, `DeliveryContract`, `ImporterContract`, `MemoryLogger`. Needs pytest.

A plugin's test is a subclass that makes the logger and reads the data back from its tracker::

    from rankzero.testing import ALL, LoggerContract, Tracked

    class TestMyLogger(LoggerContract):
        capabilities = ALL - {"nan", "exactly_once"}

        def make_logger(self, tmp_path):
            return MyLogger(url=...)

        def read_back(self, logger):
            tracked = Tracked()
            for name, step, value, time in ...:
                tracked.add_metric(name, step, value, time)
            return tracked
"""

import pytest

pytest.register_assert_rewrite(
    "rankzero.testing.contract", "rankzero.testing.delivery", "rankzero.testing.importing"
)  # before it is imported: for messages that show the values

from rankzero.testing.capabilities import ALL, CAPABILITIES  # noqa: E402
from rankzero.testing.contract import LoggerContract  # noqa: E402
from rankzero.testing.delivery import DeliveryContract  # noqa: E402
from rankzero.testing.importing import ImporterContract  # noqa: E402
from rankzero.testing.memory import Call, MemoryLogger  # noqa: E402
from rankzero.testing.proxy import FaultyProxy  # noqa: E402
from rankzero.testing.tracked import Item, Point, Tracked  # noqa: E402

__all__ = [
    "ALL",
    "CAPABILITIES",
    "Call",
    "DeliveryContract",
    "FaultyProxy",
    "ImporterContract",
    "Item",
    "LoggerContract",
    "MemoryLogger",
    "Point",
    "Tracked",
]

"""What holds for the tests of all plugins."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def capture_environment():
    """Plugins show what surrounds a run, so they are tested with what they get by default."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RANKZERO_CAPTURE_ENVIRONMENT", raising=False)
        yield

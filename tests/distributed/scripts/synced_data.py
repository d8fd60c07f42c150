"""The data of each rank in `recorder_sync.py`, from which the tests compute the expected values."""

BATCHES = [3, 5, 0, 2]
"""The number of batches of each rank if they differ."""


def data(rank, count, epoch=0):
    """Return (size, value) of each batch."""
    return [(1 + (rank + index) % 3, 10.0 * rank + index + epoch / 4) for index in range(count)]

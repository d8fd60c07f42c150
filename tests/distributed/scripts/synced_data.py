"""What each rank logs in `recorder_sync.py`; the tests compute from it what must come out."""

BATCHES = [3, 5, 0, 2]
"""How many batches each rank has where they differ."""


def data(rank, count, epoch=0):
    """Return (size, value) of each batch."""
    return [(1 + (rank + index) % 3, 10.0 * rank + index + epoch / 4) for index in range(count)]

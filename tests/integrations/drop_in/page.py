"""The table of deliberate differences: that of docs/reference/lightning.md, which the tests read."""

from collections import defaultdict
from functools import cache
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "lightning.md"
TRACKERS = {
    "CSVLogger": "csv",
    "TensorBoardLogger": "tensorboard",
    "MLFlowLogger": "mlflow",
    "WandbLogger": "wandb",
    "CometLogger": "comet",
    "Fabric's loggers": "fabric",
}
"""The heading of a section → what its table is about."""


@cache
def differences():
    """Return {tracker: topics}: the first cells of the rows of each table, as text without marks."""
    found = defaultdict(set)
    tracker = None
    for line in PAGE.read_text().splitlines():
        if line.startswith("#"):
            tracker = TRACKERS.get(line.lstrip("# ").replace("`", ""))
        elif tracker and line.startswith("| ") and not line.startswith("| what |"):
            found[tracker].add(line.split("|")[1].strip().replace("`", ""))
    return dict(found)


def compare(tracker, theirs, ours):
    """Compare what a script found out with Lightning's class and with ours.

    Args:
        tracker: which table has the differences that are meant to be.
        theirs: what was found out, by topic, with Lightning's class.
        ours: the same with ours.
    """
    rows = differences().get(tracker, set())
    assert theirs.keys() == ours.keys()
    found = {topic for topic in theirs if not _are_equal(theirs[topic], ours[topic])}
    strange = {topic: (theirs[topic], ours[topic]) for topic in sorted(found - rows)}
    assert not strange, f"{tracker}: (Lightning's, ours) differ, and {PAGE.name} has no row that says so: {strange}"
    mended = sorted((rows & theirs.keys()) - found)
    assert not mended, f"{tracker}: there is no such difference, and {PAGE.name} has a row that says so: {mended}"


def _are_equal(left, right):
    return left == right or str(left) == str(right)  # NaN is not equal to itself

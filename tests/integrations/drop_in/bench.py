"""A tracker for the tests: both classes, a directory for their data, and the stored data."""

import abc


class Bench(abc.ABC):
    """Lightning's class and ours, side by side; each logger that is made has a place of its own.

    Args:
        directory: where to write.
    """

    tracker: str
    theirs: type
    ours: type

    def __init__(self, directory):
        self.directory = directory
        self.made = []

    @property
    def kinds(self):
        """Both classes, Lightning's first."""
        return self.theirs, self.ours

    def each(self):
        """Yield both classes, and end what was made of one before the other comes."""
        for kind in self.kinds:
            yield kind
            self.close()

    def make(self, kind, name, **options):
        """Make a logger; ``name`` tells its place from that of others of the same class."""
        logger = kind(**self.place(f"{name}-{'theirs' if kind is self.theirs else 'ours'}"), **options)
        self.made.append(logger)
        return logger

    def without_place(self, logger, value):
        """Return a value as text, without what tells the logger's place from those of others."""
        text = str(value)
        for part in (*map(str, self.parts_of(logger)), "-theirs", "-ours"):
            text = text.replace(part, "")
        return text

    def begun(self):
        """Return the number of runs in the tracker."""
        return 0

    def parts_of(self, logger):
        """Return the tracker's name of the logger's run."""
        return []

    @abc.abstractmethod
    def place(self, name):
        """Return the arguments that lead a logger to its place."""

    def end(self, logger):
        """Simulate the end of the process."""

    @abc.abstractmethod
    def arrived(self, logger):
        """Return what the tracker has: ``metrics`` as {name: [(step, value)]}, ``params``, and what else counts."""

    def close(self):
        """End everything."""
        while self.made:
            self.end(self.made.pop())

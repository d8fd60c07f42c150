"""What stands in the journal of a run."""

from rankzero.events.structs import encode
from rankzero.journal.tail import read_events
from rankzero.rundir.layout import JOURNAL


def events_in(run_dir, kind=object):
    """Return the events of a kind, in their order."""
    return [event for _, event in read_events(run_dir / JOURNAL) if isinstance(event, kind)]


def write(run_dir, *events):
    """Append events, and lines as they are; make the directory unless it is there."""
    run_dir.mkdir(parents=True, exist_ok=True)
    with open(run_dir / JOURNAL, "ab") as file:
        file.writelines(each if isinstance(each, bytes) else encode(each) for each in events)

"""The data of a run in its journal and on the server."""

from plugins.neptune.arrived import arrived

from rankzero.events.structs import Metrics
from rankzero.journal.tail import read_events
from rankzero.rundir.layout import JOURNAL
from rankzero.rundir.positions import load_position
from rankzero.testing import runs


def points_logged(run_dir, name="loss"):
    """Return (step, value, milliseconds) of a metric in a journal."""
    rows = [event for _, event in read_events(run_dir / JOURNAL) if isinstance(event, Metrics) and name in event.values]
    return [(row.step, float(row.numbers()[name]), round(row.time * 1000)) for row in rows]


def points_stored(server, run_id, name="loss"):
    """Return the same for the server."""
    found = arrived(server.run(run_id)).metrics.get(name, [])
    return [(point.step, point.value, round(point.time * 1000)) for point in found]


def rejected(run_dir, key="neptune"):
    """Return the types of the events on the reject list."""
    return [entry["event"]["type"] for entry in runs.rejected(run_dir, key)]


def problem_of(run_dir):
    """Return the courier's problem."""
    return load_position(run_dir, "neptune").problem

"""Capabilities: the differences between trackers that decide what `LoggerContract` expects."""

from __future__ import annotations

from collections.abc import Mapping

CAPABILITIES: Mapping[str, str] = {
    "nan": "NaN and the infinities come back unchanged; otherwise no number replaces them",
    "float64": "floats come back exactly; otherwise as the nearest float32",
    "signed_zero": "-0.0 keeps its sign",
    "big_ints": "ints beyond 2**53 come back exactly",
    "any_name": "names of metrics come back unchanged; otherwise as names that still differ",
    "order": "the values of a metric come back in the order in which they were logged; otherwise ordered by step",
    "repeated_steps": "all values of a metric at one step are kept; otherwise the last one",
    "rewind": "what was logged at later steps is taken back if a run is rewound; otherwise it stays, with one warning",
    "times": "metrics come back with the wall-clock time at which they were logged",
    "earlier_times": "a time may be earlier than the previous one, as after a clock was set back",
    "typed_params": "hyperparameters come back with their types; otherwise as text",
    "acknowledges": "data logged before flush() can be read back while the logger is open",
    "resume": "a second logger attached to the same run continues it",
    "several_runs": "loggers of several runs can be open at once in one process",
    "exactly_once": "no value is duplicated if a courier died before it could save its position",
    "lost_answers": "no value is duplicated if the response to its request was lost",
    "status": "whether the run was successful comes back",
    "image": "images; without this or one of the following: an artifact, or one warning",
    "audio": "sounds",
    "video": "videos",
    "figure": "figures",
    "pointcloud": "point clouds",
    "table": "tables",
    "text": "texts; otherwise as a table",
    "histogram": "histograms",
    "graph": "the structure of a model",
    "artifact": "files; otherwise one warning says that they are not uploaded",
    "checkpoint": "checkpoints, with score and aliases",
    "tags": "tags of the run",
    "define_metric": "the x-axis and the summary of a metric",
}
"""Name → meaning of the capability."""

ALL = frozenset(CAPABILITIES)
"""The default capabilities of a logger."""

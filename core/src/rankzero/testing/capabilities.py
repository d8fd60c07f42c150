"""What trackers differ in: these names, and never a tracker's, decide what `LoggerContract` expects."""

from __future__ import annotations

from collections.abc import Mapping

CAPABILITIES: Mapping[str, str] = {
    "nan": "NaN and the infinities come back as such; otherwise no number takes their place",
    "float64": "floats come back to the last bit; otherwise as the nearest float32",
    "signed_zero": "-0.0 keeps its sign",
    "big_ints": "ints beyond 2**53 come back exactly",
    "any_name": "names of metrics come back as they were; otherwise under names that still differ",
    "order": "the values of a metric come back in the order in which they were logged; otherwise ordered by step",
    "repeated_steps": "several values of a metric at one step are all kept; otherwise the last of them",
    "times": "metrics come back with the wall-clock time at which they were logged",
    "earlier_times": "a time may be earlier than the one before, as when a clock is set back",
    "typed_params": "hyperparameters come back with their types; otherwise as text",
    "acknowledges": "what was handed over before flush() can be read back while the logger is open",
    "resume": "a second logger that is attached to the same run continues it",
    "several_runs": "loggers of several runs can be open at once in one process",
    "exactly_once": "no value is doubled when a courier died before it could save its position",
    "lost_answers": "no value is doubled when the answer to the request that brought it was lost",
    "status": "whether the run ended well comes back",
    "image": "pictures are kept as such; this one, and those below, otherwise as an artifact, or it is said once",
    "audio": "sounds",
    "video": "videos",
    "figure": "figures",
    "pointcloud": "clouds of points",
    "table": "tables",
    "text": "texts; otherwise as a table",
    "histogram": "histograms",
    "graph": "the structure of a model",
    "artifact": "files; otherwise it is said once that they stay where they are",
    "checkpoint": "checkpoints, with score and aliases",
    "tags": "tags of the run",
    "define_metric": "the x-axis and the summary of a metric",
}
"""Name → what it means that a tracker has it."""

ALL = frozenset(CAPABILITIES)
"""What a logger is taken to be capable of if it does not say otherwise."""

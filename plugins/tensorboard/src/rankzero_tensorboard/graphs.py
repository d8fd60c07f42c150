"""What a journal keeps of a model → the graph that TensorBoard draws: its modules, one inside the other."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from tensorboard.compat.proto.attr_value_pb2 import AttrValue
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef


def graph_event(path: str | os.PathLike[str], time: float) -> Event:
    """Return the event that shows a model, which is kept as JSON in the file at ``path``.

    Which module feeds which is not known there, so the graph has no edges.
    """
    with open(path, "rb") as file:
        model = json.load(file)
    modules = model["modules"] or [{"name": "", "type": model["text"], "parameters": 0}]
    root = _part(modules[0]["type"])
    graph = GraphDef(node=[_node(root, module) for module in modules])
    return Event(wall_time=time, graph_def=graph.SerializeToString())


def _node(root: str, module: Mapping[str, Any]) -> NodeDef:
    parts = map(_part, filter(None, module["name"].split(".")))
    parameters = AttrValue(i=module["parameters"])
    return NodeDef(name="/".join([root, *parts]), op=module["type"], attr={"parameters": parameters})


def _part(name: str) -> str:
    return name.replace("/", "_")

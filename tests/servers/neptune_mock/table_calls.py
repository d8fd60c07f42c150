"""The calls behind ``fetch_runs_table``."""

from __future__ import annotations

import re
from typing import Any

from servers.neptune_mock.attributes import Series, Value, described
from servers.neptune_mock.calls import Asked, Call, Problem
from servers.neptune_mock.nql import parse
from servers.neptune_mock.run import StoredRun


def search(asked: Asked) -> dict[str, Any]:
    """A page of the runs of a query, with the requested columns."""
    sent = asked.json
    try:
        is_wanted = parse(sent["query"]["query"])
    except ValueError:
        raise Problem(400, "Syntax error") from None
    found = [run for run in _runs(asked) if is_wanted(run.described())]
    sorting = sent.get("sorting")
    if sorting:
        found.sort(key=lambda run: _key(run, sorting["sortBy"]["name"]), reverse=sorting["dir"] == "descending")
    first, limit = sent["pagination"]["offset"], sent["pagination"]["limit"]
    columns = [each["path"] for each in sent.get("attributeFilters", ())]
    page = [_entry(run, columns) for run in found[first : first + limit]]
    return {"matchingItemCount": len(found), "entries": page}


def search_columns(asked: Asked) -> dict[str, Any]:
    """The names and types of the attributes of all runs that match a regular expression."""
    columns = {(path, each.type) for run in _runs(asked) for path, each in run.described().items()}
    found = [{"name": path, "type": kind} for path, kind in sorted(columns) if re.search(asked.query["search"], path)]
    return {"entries": found}


def _runs(asked: Asked) -> list[StoredRun]:
    project = asked.store.find_project(asked.query["projectIdentifier"])
    if project is None:
        raise Problem(404, f"project {asked.query['projectIdentifier']} not found")
    place = (project.workspace, project.name)
    return [run for run in asked.store.runs.values() if (run.workspace, run.project) == place]


def _entry(run: StoredRun, columns: list[str]) -> dict[str, Any]:
    attributes = run.described().items()
    kept = [described(path, each) for path, each in attributes if not columns or path in columns]
    return {"experimentId": run.id, "type": "run", "attributes": kept}


def _key(run: StoredRun, path: str) -> tuple[bool, Any]:
    """The sort key of a run; runs without the attribute come first."""
    found = run.described().get(path)
    if isinstance(found, Series):
        value = found.points[-1].value if found.points else None
    else:
        value = found.value if isinstance(found, Value) else None
    return (value is not None, value)


_API = "/api/leaderboard/v1/leaderboard"
_WHERE = "projectIdentifier:string type:array body:params:object"
CALLS: dict[str, Call] = {
    "searchLeaderboardEntries": Call("leaderboard", "POST", f"{_API}/entries/search", _WHERE, "Table", search),
    "searchLeaderboardAttributes": Call(
        "leaderboard", "POST", f"{_API}/attributes/search", f"{_WHERE} search:string", "Columns", search_columns
    ),
}

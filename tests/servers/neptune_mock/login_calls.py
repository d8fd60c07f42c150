"""The calls before a run is opened: login and projects."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from servers.neptune_mock.calls import Asked, Call, Problem
from servers.neptune_mock.store import Project

ISSUER = "/auth/realms/neptune"


def config(asked: Asked) -> dict[str, Any]:
    """The configuration of the server; any token is accepted."""
    largest_single, part = asked.part_sizes
    parts = {"minChunkSize": part, "maxChunkSize": 1 << 30, "maxChunkCount": 1000, "maxSinglePartSize": largest_single}
    return {
        "apiUrl": asked.url,
        "applicationUrl": asked.url,
        "pyLibVersions": {"minRecommendedVersion": "0.4.0", "minCompatibleVersion": "0.4.0"},
        "multiPartUpload": {"enabled": True, **parts},
        "artifacts": {"enabled": False, "apiVersion": 1},
        "sysNameSetByBackend": False,
    }


def exchange(asked: Asked) -> dict[str, Any]:
    """Log in."""
    tokens = asked.store.sessions.begin(asked.headers.get("X-Neptune-Api-Token", ""), asked.url + ISSUER)
    if tokens is None:
        raise Problem(401, "Invalid API token")
    return tokens


def refresh(asked: Asked) -> dict[str, Any]:
    """Refresh the access token, with OAuth."""
    sent = parse_qs(asked.body.decode())
    tokens = asked.store.sessions.refresh(sent["refresh_token"][0], asked.url + ISSUER)
    if tokens is None:
        refused = Problem(400, "Token is not active")
        refused.body = {"error": "invalid_grant", "error_description": "Token is not active"}
        raise refused
    return {
        "access_token": tokens["accessToken"],
        "refresh_token": tokens["refreshToken"],
        "expires_in": int(asked.store.sessions.lifetime),
        "token_type": "bearer",
    }


def get_project(asked: Asked) -> dict[str, Any]:
    """A project, by id or ``workspace/name``."""
    project = asked.store.find_project(asked.query["projectIdentifier"])
    if project is None:
        raise Problem(404, f"project {asked.query['projectIdentifier']} not found")
    return _project(project)


def list_projects(asked: Asked) -> dict[str, Any]:
    """The projects of a workspace, or all, whose names contain a text."""
    workspace, part = asked.query.get("organizationIdentifier"), asked.query.get("searchTerm", "")
    found = [
        _project(project)
        for project in asked.store.projects.values()
        if part in project.name and workspace in (None, project.workspace)
    ]
    return {"entries": found[: int(asked.query.get("limit", len(found)))], "matchingItemCount": len(found)}


def list_workspaces(asked: Asked) -> list[dict[str, Any]]:
    """The workspaces of all projects."""
    return [{"id": name, "name": name} for name in sorted({each.workspace for each in asked.store.projects.values()})]


def _project(project: Project) -> dict[str, Any]:
    return {
        "id": project.id,
        "name": project.name,
        "organizationName": project.workspace,
        "projectKey": project.key,
        "version": 2,
    }


_TOKEN = "header:X-Neptune-Api-Token:string"
_LISTED = "limit:integer organizationIdentifier:string searchTerm:string sortBy:array sortDirection:array"
CALLS: dict[str, Call] = {
    "getClientConfig": Call(
        "backend", "GET", "/api/backend/v1/clients/config", f"{_TOKEN} alpha:string", "ClientConfig", config, True
    ),
    "exchangeApiToken": Call(
        "backend", "GET", "/api/backend/v1/authorization/oauth-token", _TOKEN, "Tokens", exchange, True
    ),
    "getProject": Call(
        "backend", "GET", "/api/backend/v1/projects/get", "projectIdentifier:string", "Project", get_project
    ),
    "listProjects": Call(
        "backend", "GET", "/api/backend/v1/projects2", f"{_LISTED} userRelation:string", "Projects", list_projects
    ),
    "listOrganizations": Call(
        "backend", "GET", "/api/backend/v1/organizations2", "", "[Organization]", list_workspaces
    ),
}

"""Comet's artifacts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from servers.comet_mock.experiment import Asset
from servers.comet_mock.request import Refused

_NO_ARTIFACT = 624523
_VERSION_EXISTS = 90399
_NOT_FINAL = 90403


@dataclass
class ArtifactVersion:
    """One version of an artifact."""

    id: str
    version: str
    experiment_key: str
    aliases: list[str]
    tags: list[str]
    metadata: str | None
    """JSON, as sent."""
    state: str = "OPEN"
    """``"OPEN"``, ``"CLOSED"`` or ``"ERROR"``; only a closed version can be used."""
    assets: list[Asset] = field(default_factory=list)

    @property
    def files(self) -> dict[str, bytes]:
        """Path → content of the files; the last content of a path that was sent twice."""
        return {asset.name: asset.content for asset in self.assets}


@dataclass
class StoredArtifact:
    """One artifact."""

    id: str
    workspace: str
    name: str
    type: str
    tags: list[str] = field(default_factory=list)
    versions: list[ArtifactVersion] = field(default_factory=list)
    """The oldest first."""

    def find(self, wanted: str | None) -> ArtifactVersion | None:
        """Return the version with a number or alias; the newest if None."""
        found = [each for each in self.versions if wanted in (None, each.version, *each.aliases)]
        return found[-1] if found else None

    def give_aliases(self, version: ArtifactVersion, aliases: list[str]) -> None:
        """Set the aliases of a version, and remove them from other versions."""
        for each in self.versions:
            each.aliases = [alias for alias in each.aliases if alias not in aliases]
        version.aliases = list(aliases)


@dataclass
class Artifacts:
    """All artifacts."""

    by_id: dict[str, StoredArtifact] = field(default_factory=dict)

    def find(self, workspace: str, name: str) -> StoredArtifact | None:
        """Return an artifact; None if it does not exist."""
        return next((each for each in self.by_id.values() if (each.workspace, each.name) == (workspace, name)), None)

    def with_version(self, version_id: str) -> tuple[StoredArtifact, ArtifactVersion]:
        """Return the version with an id, and its artifact.

        Raises:
            Refused: the version does not exist.
        """
        for artifact in self.by_id.values():
            for version in artifact.versions:
                if version.id == version_id:
                    return artifact, version
        raise Refused(f"there is no artifact version {version_id}", _NO_ARTIFACT)

    def add_version(self, workspace: str, experiment_key: str, sent: dict[str, Any]) -> ArtifactVersion:
        """Create a version of a new or existing artifact.

        Raises:
            Refused: the version exists.
        """
        artifact = self.find(workspace, sent["artifactName"])
        if artifact is None:
            number = len(self.by_id) + 1
            artifact = StoredArtifact(f"artifact{number}", workspace, sent["artifactName"], sent["artifactType"])
            self.by_id[artifact.id] = artifact
        name = sent.get("version") or f"{len(artifact.versions) + 1}.0.0"
        if any(each.version == name for each in artifact.versions):
            raise Refused(f"artifact {artifact.name} has a version {name}", _VERSION_EXISTS)
        identity = f"{artifact.id}-version{len(artifact.versions) + 1}"
        tags, metadata = list(sent.get("versionTags") or []), sent.get("versionMetadata")
        version = ArtifactVersion(identity, name, experiment_key, [], tags, metadata)
        artifact.versions.append(version)
        artifact.give_aliases(version, list(sent.get("alias") or []))
        return version

    def wanted(self, workspace: str, sent: dict[str, str]) -> tuple[StoredArtifact, ArtifactVersion]:
        """Return the version of a query, by id, or by name and version or alias.

        Raises:
            Refused: the version does not exist, or is to be used but not complete.
        """
        if "versionId" in sent:
            return self.with_version(sent["versionId"])
        name = sent.get("artifactName", "")
        artifact = self.by_id.get(sent.get("artifactId", "")) or self.find(workspace, name)
        wanted = sent.get("versionOrAlias") or sent.get("version") or sent.get("alias")
        version = artifact.find(wanted) if artifact else None
        if artifact is None or version is None:
            raise Refused(f"there is no artifact {workspace}/{name}:{wanted}", _NO_ARTIFACT)
        if version.state != "CLOSED":
            raise Refused(f"artifact {workspace}/{name}:{version.version} is not complete", _NOT_FINAL)
        return artifact, version

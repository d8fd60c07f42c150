"""Stored artifacts: collections, versions and aliases."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Collection:
    """The versions of an artifact name."""

    entity: str
    project: str
    name: str
    type: str
    versions: list[ArtifactVersion] = field(default_factory=list)
    """The complete versions."""
    aliases: dict[str, ArtifactVersion] = field(default_factory=dict)

    def find(self, alias: str) -> ArtifactVersion | None:
        """Return the version with an alias, or ``v0``, ``v1``, …"""
        return self.aliases.get(alias) or next((each for each in self.versions if each.version == alias), None)


@dataclass
class ArtifactVersion:
    """One version of an artifact."""

    id: str
    collection: Collection
    digest: str
    wanted_aliases: list[str]
    """The aliases of the complete version, including ``latest``."""
    run: str | None
    """The path of the run that logged it."""
    blobs: dict[str, bytes]
    """Digest → content of all files of all artifacts."""
    description: str | None = None
    raw_metadata: str | None = None
    index: int | None = None
    used_by: list[str] = field(default_factory=list)
    """The paths of the runs that used it."""
    raw_manifest: bytes = b""

    @property
    def name(self) -> str:
        """The name of the collection."""
        return self.collection.name

    @property
    def type(self) -> str:
        """The type of the collection."""
        return self.collection.type

    @property
    def version(self) -> str | None:
        """``v0``, ``v1``, …; None until it is complete."""
        return None if self.index is None else f"v{self.index}"

    @property
    def aliases(self) -> list[str]:
        """The aliases."""
        return sorted(alias for alias, version in self.collection.aliases.items() if version is self)

    @property
    def metadata(self) -> dict[str, Any]:
        """The user's metadata."""
        return json.loads(self.raw_metadata or "{}") or {}

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest."""
        return json.loads(self.raw_manifest)

    @property
    def files(self) -> dict[str, bytes]:
        """Path → content of its files, without references."""
        entries = self.manifest["contents"]
        return {path: self.blobs[each["digest"]] for path, each in entries.items() if each["digest"] in self.blobs}

    def commit(self) -> None:
        """Complete the version, and set its number and aliases."""
        if self.index is None:
            self.index = len(self.collection.versions)
            self.collection.versions.append(self)
        self.call(*self.wanted_aliases)

    def call(self, *aliases: str) -> None:
        """Set aliases, and remove them from other versions."""
        self.collection.aliases.update(dict.fromkeys(aliases, self))


@dataclass
class Artifacts:
    """All artifacts."""

    collections: dict[tuple[str, str, str], Collection] = field(default_factory=dict)
    by_id: dict[str, ArtifactVersion] = field(default_factory=dict)
    by_client_id: dict[str, ArtifactVersion] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    digests: dict[tuple[str, str], str] = field(default_factory=dict)
    """(id of the version, path) → digest of a file to be uploaded."""

    def create(self, sent: dict[str, Any]) -> ArtifactVersion:
        """Create a version, or return an identical one."""
        where = (sent["entityName"], sent["projectName"], sent["artifactCollectionName"])
        collection = self.collections.setdefault(where, Collection(*where, sent["artifactTypeName"]))
        aliases = [each["alias"] for each in sent.get("aliases") or ()]
        known = next((each for each in collection.versions if each.digest == sent["digest"]), None)
        if known and sent.get("enableDigestDeduplication"):
            known.wanted_aliases = aliases
            known.commit()
            version = known
        else:
            version = self._begin(collection, sent, aliases)
        if sent.get("clientID"):
            self.by_client_id[sent["clientID"]] = version
        return version

    def _begin(self, collection: Collection, sent: dict[str, Any], aliases: list[str]) -> ArtifactVersion:
        version = ArtifactVersion(
            id=f"artifact-{len(self.by_id)}",
            collection=collection,
            digest=sent["digest"],
            wanted_aliases=aliases,
            run=_run_of(sent),
            blobs=self.blobs,
            description=sent.get("description"),
            raw_metadata=sent.get("metadata"),
        )
        self.by_id[version.id] = version
        return version

    def find(self, entity: str, project: str, name: str) -> ArtifactVersion | None:
        """Return the version ``name``, ``name:alias`` or ``name:v0``."""
        name, _, alias = name.partition(":")
        collection = self.collections.get((entity, project, name))
        return collection.find(alias or "latest") if collection else None

    def announce(self, artifact_id: str, path: str, digest: str) -> bool:
        """Announce the upload of a file; return whether its content is missing."""
        self.digests[artifact_id, path] = digest
        return digest not in self.blobs

    def store(self, artifact_id: str, path: str, content: bytes) -> None:
        """Store the content of an announced file."""
        self.blobs[self.digests[artifact_id, path]] = content


def _run_of(sent: dict[str, Any]) -> str | None:
    return f"{sent['entityName']}/{sent['projectName']}/{sent['runName']}" if sent.get("runName") else None

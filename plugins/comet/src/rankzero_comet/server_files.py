"""The files of one experiment on Comet's server: sent so that the server has them, and read back."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any, NamedTuple

from rankzero.errors import TrackerUnavailableError
from rankzero_comet.connection import Connection
from rankzero_comet.failures import STRANGE_ANSWERS, UnconfirmedError, refused, taken, translated
from rankzero_comet.files import ASSET, IMAGE, Artifact, Upload


class _Begun(NamedTuple):
    version: str
    sent: set[str]


_begun: dict[tuple[str, int | None], _Begun] = {}
"""Versions that are not complete, by experiment and line: they outlive a logger that is made anew."""


class ServerFiles:
    """Sends files and artifacts, and reads those back.

    Args:
        connection: to the server.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rest, self._key = connection.rest, connection.key

    def id_of(self, file: Upload) -> str:
        """Return the id under which Comet holds a file, the same whenever it is sent."""
        if file.line is None:
            return uuid.uuid4().hex
        seed = self._key, file.line, file.name, file.step, dict(file.metadata)
        return uuid.uuid5(uuid.NAMESPACE_OID, repr(seed)).hex

    def held(self) -> set[str]:
        """Return the ids of the files that Comet holds."""
        with translated("Comet's list of the files cannot be read", *STRANGE_ANSWERS):
            listed: Any = self._rest.get_experiment_asset_list(self._key, "all")
            return {each["assetId"] for each in listed or []}

    def upload(self, file: Upload, file_id: str, artifact_version: str | None = None) -> None:
        """Send a file.

        Args:
            file: the file.
            file_id: what Comet is to call it by.
            artifact_version: Comet's id of the version of an artifact that it belongs to; none if None.
        """
        what = f"the file {file.name!r} was not taken"
        try:
            self._send(file, file_id, artifact_version, what)
        except UnconfirmedError:
            if file_id in self.held():
                return
            with taken(what):
                raise

    def _send(self, file: Upload, file_id: str, artifact_version: str | None, what: str) -> None:
        from comet_ml.connection.connection_upload import send_file

        of_type = (
            {"figName": file.name, "imageId": file_id}
            if file.type == IMAGE
            else {"fileName": file.name, "assetId": file_id, "type": file.type}
        )
        params = {
            "experimentId": self._key,
            "projectId": self._connection.project_id,
            "runId": self._connection.run_id,
            "step": file.step,
            "epoch": file.epoch,
            "extension": file.path.suffix.removeprefix(".") or None,
            "overwrite": False,
            "artifactVersionId": artifact_version,
            **of_type,
        }
        with translated(what):
            answer = send_file(
                self._connection.logs.get_upload_url(file.type),
                str(file.path),
                params=params,
                headers={
                    "Authorization": self._connection.api_key,
                    "X-COMET-DEBUG-EXPERIMENT-KEY": self._key,
                },
                timeout=self._connection.file_timeout,
                session=self._connection.logs._low_level_http_client.session,
                metadata=dict(file.metadata) or None,
            )
        if answer.status_code != 200:
            raise refused(what, answer)

    def log_artifact(self, artifact: Artifact) -> None:
        """Make a version of an artifact, of which `download` returns the files; go on with one that was begun."""
        event = self._key, artifact.line
        begun = _begun[event] = _begun.get(event) or self._begin(artifact)
        try:
            self._complete(artifact, begun)
        except TrackerUnavailableError:
            raise
        except Exception:
            del _begun[event]
            raise
        del _begun[event]

    def _begin(self, artifact: Artifact) -> _Begun:
        with translated(f"the artifact {artifact.name!r} was not taken"):
            made = self._rest.upsert_artifact(
                artifact_name=artifact.name,
                artifact_type=artifact.type,
                experiment_key=self._key,
                metadata=artifact.metadata,
                aliases=list(artifact.aliases),
            ).json()
        return _Begun(str(made["artifactVersionId"]), set())

    def _complete(self, artifact: Artifact, begun: _Begun) -> None:
        for name, path in artifact.files.items():
            if name not in begun.sent:
                self.upload(Upload(path, ASSET, name), uuid.uuid4().hex, begun.version)
                begun.sent.add(name)
        with taken(f"the artifact {artifact.name!r} was not taken"):
            state = {"artifactVersionId": begun.version, "experimentKey": self._key, "state": "CLOSED"}
            self._rest.post_from_endpoint("write/artifacts/state", state)

    def download(self, artifact: str, alias: str, directory: Path) -> list[Path]:
        """Write the files of an artifact's version into a directory, and return where they are.

        Raises:
            LookupError: no version has the alias.
        """
        from comet_ml.exceptions import CometRestApiException

        try:
            version = self._rest.get_artifact_version_details(
                name=artifact, version_or_alias=alias, experiment_key=self._key
            )
        except CometRestApiException as error:
            if error.response.status_code not in (400, 404):
                raise refused(f"the artifact {artifact!r} cannot be read", error.response) from error
            raise LookupError(f"no version of the artifact {artifact!r} has the alias {alias!r}") from error
        workspace = version["artifact"]["workspaceName"]
        listed = self._rest.get_artifact_files(workspace=workspace, name=artifact, version=version["artifactVersion"])
        found = []
        for file in listed["files"]:
            path = (directory / file["fileName"]).resolve()
            if not path.is_relative_to(directory.resolve()):
                raise ValueError(f"Comet names a file that does not belong into {directory}: {file['fileName']!r}")
            self._download(file["assetId"], version["artifactVersionId"], path)
            found.append(path)
        return found

    def _download(self, asset: str, version: str, path: Path) -> None:
        answer = self._rest.get_experiment_asset(asset, self._key, version, return_type="response", stream=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as target:
            for chunk in answer.iter_content(1 << 20):
                target.write(chunk)

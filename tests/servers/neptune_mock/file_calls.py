"""The calls that upload and download files."""

from __future__ import annotations

import io
import posixpath
import re
import tarfile
import uuid
import zipfile
from typing import Any

from servers.neptune_mock.attributes import File, FileSet
from servers.neptune_mock.calls import Asked, Call, Content, Problem
from servers.neptune_mock.run import Refused
from servers.neptune_mock.store import Upload
from servers.neptune_mock.value_calls import find


def upload(asked: Asked) -> dict[str, Any]:
    """Store a file sent in one piece."""
    return _keep(asked, asked.body, asked.query.get("ext", ""))


def start(asked: Asked) -> dict[str, Any]:
    """Begin a file that is sent in parts."""
    asked.run("experimentIdentifier")
    upload_id = str(uuid.uuid4())
    asked.store.uploads[upload_id] = Upload(int(asked.query["totalLength"]), asked.query.get("ext", ""))
    return {"uploadId": upload_id, "errors": []}


def part(asked: Asked) -> dict[str, Any]:
    """Store a part."""
    sent = re.fullmatch(r"bytes=(\d+)-(\d+)/(\d+)", asked.headers["X-Range"])
    if sent is None or int(sent[2]) - int(sent[1]) + 1 != len(asked.body):
        raise Problem(400, "Length of stream does not match given range")
    _upload(asked).parts[int(asked.query["uploadPartIdx"])] = (int(sent[1]), asked.body)
    return {"errors": []}


def finish(asked: Asked) -> dict[str, Any]:
    """Complete a file of parts."""
    found = _upload(asked)
    if found.content is None:
        raise Problem(400, "parts of the file are missing")
    del asked.store.uploads[asked.query["uploadId"]]
    return _keep(asked, found.content, found.ext)


def upload_archive(asked: Asked) -> dict[str, Any]:
    """Store several files of a set at once."""
    run, path = asked.run(), asked.query["attribute"]
    with tarfile.open(fileobj=io.BytesIO(asked.body), mode="r:gz") as archive:
        members = {member.name: archive.extractfile(member) for member in archive if member.isfile()}
        files = {posixpath.normpath(name): content.read() for name, content in members.items() if content is not None}
    try:
        kept = run.obtain(path, "upload", "fileSet", FileSet).files
    except Refused as error:
        return _errors(str(error))
    if asked.query.get("reset") == "True":
        kept.clear()
    kept.update(files)
    return _errors()


def download(asked: Asked) -> Content:
    """A file."""
    file = find(asked, "file")
    assert isinstance(file, File)
    return Content(file.content, "application/octet-stream", file.name(asked.query["attribute"]))


def prepare(asked: Asked) -> dict[str, Any]:
    """Create a ZIP file of a file set."""
    file_set = find(asked, "fileSet")
    assert isinstance(file_set, FileSet)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in file_set.files.items():
            archive.writestr(name, content)
    archive_id = str(uuid.uuid4())
    asked.store.archives[archive_id] = packed.getvalue()
    return {"id": archive_id}


def prepared(asked: Asked) -> dict[str, Any]:
    """The URL of a ZIP file."""
    return {"id": asked.query["id"], "downloadUrl": f"{asked.url}{_ARCHIVE}?id={asked.query['id']}"}


def download_archive(asked: Asked) -> Content:
    """A ZIP file."""
    return Content(asked.store.archives[asked.query["id"]], "application/zip", "files.zip")


def _upload(asked: Asked) -> Upload:
    found = asked.store.uploads.get(asked.query["uploadId"])
    if found is None:
        raise Problem(404, f"there is no upload {asked.query['uploadId']}")
    return found


def _keep(asked: Asked, content: bytes, ext: str) -> dict[str, Any]:
    """Store bytes as a file, or at ``subPath`` of a file set."""
    run, path, inside = asked.run("experimentIdentifier"), asked.query["attribute"], asked.query.get("subPath")
    try:
        if inside is None:
            run.obtain(path, "upload", "file", lambda: File(b"", ext))
            run.attributes[path] = File(content, ext)
        else:
            run.obtain(path, "upload", "fileSet", FileSet).files[posixpath.normpath(inside)] = content
    except Refused as error:
        return _errors(str(error))
    return _errors()


def _errors(*reasons: str) -> dict[str, Any]:
    return {"errors": [{"errorDescription": reason} for reason in reasons]}


_API = "/api/leaderboard/v1/attributes"
_ARCHIVE = f"{_API}/fileSet/archive"
_INTO = "experimentIdentifier:string attribute:string"
_NUMBER = f"{_INTO} uploadId:string"


def _parted(kind: str, name: str, where: str) -> dict[str, Call]:
    """The calls that upload one kind of file, whole and in parts."""
    begun, numbered = f"{where} totalLength:integer", f"{_NUMBER} {where.removeprefix(_INTO).replace('ext:string', '')}"
    return {
        f"{name}Upload": Call("leaderboard", "POST", f"{_API}/{kind}/upload", where, "Errors", upload),
        f"{name}MultipartUploadStart": Call(
            "leaderboard", "POST", f"{_API}/{kind}/upload/start", begun, "Started", start
        ),
        f"{name}MultipartUploadPart": Call(
            "leaderboard", "POST", f"{_API}/{kind}/upload/part", f"{numbered} uploadPartIdx:integer", "Errors", part
        ),
        f"{name}MultipartUploadFinish": Call(
            "leaderboard", "POST", f"{_API}/{kind}/upload/finish", numbered, "Errors", finish
        ),
    }


_ONE = "experimentId:string attribute:string"
CALLS: dict[str, Call] = {
    **_parted("file", "fileAtom", f"{_INTO} ext:string"),
    **_parted("fileSet", "fileSetFile", f"{_INTO} subPath:string"),
    "uploadFileSetAttributeTar": Call(
        "leaderboard", "POST", f"{_API}/fileSet/tar", f"{_ONE} reset:string", "Errors", upload_archive
    ),
    "downloadAttribute": Call("leaderboard", "GET", f"{_API}/download", _ONE, "", download),
    "prepareForDownloadFileSetAttributeZip": Call(
        "leaderboard", "POST", f"{_API}/fileSet/zip", _ONE, "Prepared", prepare
    ),
    "getDownloadPrepareRequest": Call("leaderboard", "GET", f"{_API}/fileSet/zip", "id:string", "Prepared", prepared),
    "downloadArchive": Call("leaderboard", "GET", _ARCHIVE, "id:string", "", download_archive),
}

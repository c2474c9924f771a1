"""Serves the Files API 2.0 for volumes and for the roots where MLflow keeps artifacts."""

from email.utils import formatdate

from aiohttp import web

from local.databricks.workspace.storage.errors import FileMissingError
from local.databricks.workspace.storage.model import Entry, FileStore
from local.databricks.workspace.storage.uploads import MultipartUploads
from local.databricks.workspace.transport.errors import ErrorCode, NotImplementedLocallyError, WorkspaceError
from local.databricks.workspace.transport.params import JsonObject, read_params

__all__ = ["FilesApi", "files_routes"]

_CHUNK_BYTES = 1 << 20


def files_routes(files: FileStore, uploads: MultipartUploads) -> list[web.RouteDef]:
    """Return the routes below `/api/2.0/fs`, except URL signing."""
    api = FilesApi(files, uploads)
    file_path, directory_path = "/api/2.0/fs/files/{path:.+}", "/api/2.0/fs/directories/{path:.*}"
    return [
        web.get(file_path, api.download, allow_head=False),
        web.head(file_path, api.file_metadata),
        web.put(file_path, api.upload),
        web.post(file_path, api.act),
        web.delete(file_path, api.delete_file),
        web.get(directory_path, api.list_directory, allow_head=False),
        web.head(directory_path, api.directory_metadata),
        web.put(directory_path, api.make_directory),
        web.delete(directory_path, api.delete_directory),
    ]


class FilesApi:
    """The handlers, one per operation of the Files API."""

    def __init__(self, files: FileStore, uploads: MultipartUploads) -> None:
        self._files = files
        self._uploads = uploads

    async def download(self, request: web.Request) -> web.StreamResponse:
        """Answer a file's content, honouring `Range` and `If-Unmodified-Since`."""
        path = _path(request)
        if self._files.get(path).is_directory:
            raise FileMissingError(path)
        return web.FileResponse(
            self._files.locate(path), chunk_size=_CHUNK_BYTES, headers={"Content-Type": "application/octet-stream"}
        )

    async def file_metadata(self, request: web.Request) -> web.StreamResponse:
        """Answer a file's size and time in headers; a missing one without a body."""
        try:
            entry = self._files.get(_path(request))
        except FileMissingError:
            return web.Response(status=404)
        if entry.is_directory:
            return web.Response(status=404)
        return web.Response(
            headers={
                "Content-Length": str(entry.size_bytes),
                "Content-Type": "application/octet-stream",
                "Last-Modified": formatdate(entry.modified_ms / 1000, usegmt=True),
            }
        )

    async def upload(self, request: web.Request) -> web.StreamResponse:
        """Store the body as a file."""
        overwrite = request.query.get("overwrite", "false").lower() == "true"
        chunks = request.content.iter_chunked(_CHUNK_BYTES)
        await self._files.write_stream(_path(request), chunks, overwrite=overwrite)
        return web.Response(status=204)

    async def act(self, request: web.Request) -> web.StreamResponse:
        """Begin or finish an upload in parts."""
        params = await read_params(request)
        match params.optional_text("action"):
            case "initiate-upload":
                token = self._uploads.begin(_path(request), overwrite=params.boolean("overwrite"))
                return web.json_response({"multipart_upload": {"session_token": token}})
            case "complete-upload":
                parts = [int(part["part_number"]) for part in params.items("parts")]
                await self._uploads.complete(params.text("session_token"), parts)
                return web.json_response({})
            case other:
                raise NotImplementedLocallyError(f"fs/files with action {other!r}")

    async def delete_file(self, request: web.Request) -> web.StreamResponse:
        """Remove a file."""
        path = _path(request)
        if self._files.get(path).is_directory:
            raise FileMissingError(path)
        self._files.delete(path, recursive=False)
        return web.Response(status=204)

    async def list_directory(self, request: web.Request) -> web.StreamResponse:
        """Answer all entries of a directory in one page."""
        path = _path(request)
        if not self._files.get(path).is_directory:
            raise FileMissingError(path)
        entries = self._files.list(path)
        return web.json_response({"contents": [_to_json(entry) for entry in entries]} if entries else {})

    async def directory_metadata(self, request: web.Request) -> web.StreamResponse:
        """Answer whether there is such a directory, without a body."""
        try:
            return web.Response(status=200 if self._files.get(_path(request)).is_directory else 404)
        except FileMissingError:
            return web.Response(status=404)

    async def make_directory(self, request: web.Request) -> web.StreamResponse:
        """Make a directory and its parents."""
        self._files.make_directory(_path(request))
        return web.Response(status=204)

    async def delete_directory(self, request: web.Request) -> web.StreamResponse:
        """Remove an empty directory."""
        path = _path(request)
        if not self._files.get(path).is_directory:
            raise WorkspaceError(f"{path} is not a directory", ErrorCode.BAD_REQUEST)
        self._files.delete(path, recursive=False)
        return web.Response(status=204)


def _path(request: web.Request) -> str:
    return f"/{request.match_info['path']}"


def _to_json(entry: Entry) -> JsonObject:
    document: JsonObject = {"path": entry.path, "name": entry.name, "is_directory": entry.is_directory}
    if not entry.is_directory:
        document |= {"file_size": entry.size_bytes, "last_modified": entry.modified_ms}
    return document

"""Serves the DBFS API 2.0."""

import base64
import binascii

from aiohttp import web

from local.databricks.workspace.storage.errors import BlockTooLargeError
from local.databricks.workspace.storage.model import Entry, FileStore
from local.databricks.workspace.storage.uploads import DbfsHandles
from local.databricks.workspace.transport.errors import InvalidParameterError
from local.databricks.workspace.transport.params import JsonObject, Params
from local.databricks.workspace.transport.responses import json_endpoint

__all__ = ["dbfs_routes"]

_BLOCK_BYTES = 1 << 20


def dbfs_routes(files: FileStore, handles: DbfsHandles) -> list[web.RouteDef]:
    """Return the routes below `/api/2.0/dbfs` and the raw ones below `/dbfs`."""
    return [*_reading(files), *_writing(files, handles), *_raw(files)]


def _reading(files: FileStore) -> list[web.RouteDef]:
    def get_status(params: Params) -> JsonObject:
        return _to_json(files.get(_path(params)))

    def list_files(params: Params) -> JsonObject:
        entries = files.list(_path(params))
        return {"files": [_to_json(entry) for entry in entries]} if entries else {}

    def read(params: Params) -> JsonObject:
        length = params.optional_integer("length")
        if length is not None and not 0 <= length <= _BLOCK_BYTES:
            raise InvalidParameterError(f"length must be between 0 and 1 MB, not {length}")
        path = _path(params)
        if files.get(path).is_directory:
            raise InvalidParameterError(f"{path} is a directory")
        with files.locate(path).open("rb") as stream:
            stream.seek(params.optional_integer("offset") or 0)
            data = stream.read(_BLOCK_BYTES // 2 if length is None else length)
        return {"bytes_read": len(data), "data": base64.b64encode(data).decode()}

    return [
        web.get("/api/2.0/dbfs/get-status", json_endpoint(get_status)),
        web.get("/api/2.0/dbfs/list", json_endpoint(list_files)),
        web.get("/api/2.0/dbfs/read", json_endpoint(read)),
    ]


def _writing(files: FileStore, handles: DbfsHandles) -> list[web.RouteDef]:
    def put(params: Params) -> JsonObject:
        content = next(iter(params.files.values())) if params.files else _block(params, "contents")
        files.write(_path(params), content, overwrite=params.boolean("overwrite"))
        return {}

    def create(params: Params) -> JsonObject:
        return {"handle": handles.create(_path(params), overwrite=params.boolean("overwrite"))}

    def add_block(params: Params) -> JsonObject:
        handles.append(params.integer("handle"), _block(params, "data"))
        return {}

    def close(params: Params) -> JsonObject:
        handles.close(params.integer("handle"))
        return {}

    def mkdirs(params: Params) -> JsonObject:
        files.make_directory(_path(params))
        return {}

    def move(params: Params) -> JsonObject:
        files.move(_strip(params.text("source_path")), _strip(params.text("destination_path")))
        return {}

    def delete(params: Params) -> JsonObject:
        files.delete(_path(params), recursive=params.boolean("recursive"))
        return {}

    return [
        web.post("/api/2.0/dbfs/put", json_endpoint(put)),
        web.post("/api/2.0/dbfs/create", json_endpoint(create)),
        web.post("/api/2.0/dbfs/add-block", json_endpoint(add_block)),
        web.post("/api/2.0/dbfs/close", json_endpoint(close)),
        web.post("/api/2.0/dbfs/mkdirs", json_endpoint(mkdirs)),
        web.post("/api/2.0/dbfs/move", json_endpoint(move)),
        web.post("/api/2.0/dbfs/delete", json_endpoint(delete)),
    ]


def _raw(files: FileStore) -> list[web.RouteDef]:
    async def download(request: web.Request) -> web.StreamResponse:
        path = f"/{request.match_info['path']}"
        files.get(path)
        return web.FileResponse(files.locate(path))

    async def upload(request: web.Request) -> web.StreamResponse:
        await files.write_stream(
            f"/{request.match_info['path']}", request.content.iter_chunked(_BLOCK_BYTES), overwrite=True
        )
        return web.json_response({})

    return [web.get("/dbfs/{path:.+}", download), web.post("/dbfs/{path:.+}", upload)]


def _path(params: Params) -> str:
    return _strip(params.text("path"))


def _strip(path: str) -> str:
    bare = path.removeprefix("dbfs:")
    if not bare.startswith("/"):
        raise InvalidParameterError(f"Path must be absolute: {path}")
    return bare


def _block(params: Params, key: str) -> bytes:
    try:
        data = base64.b64decode(params.optional_text(key))
    except binascii.Error as error:
        raise InvalidParameterError(f"{key} is not base64: {error}") from error
    if len(data) > _BLOCK_BYTES:
        raise BlockTooLargeError(len(data))
    return data


def _to_json(entry: Entry) -> JsonObject:
    return {
        "path": entry.path,
        "is_dir": entry.is_directory,
        "file_size": entry.size_bytes,
        "modification_time": entry.modified_ms,
    }

"""Serves URLs that carry their own permission, as cloud storage behind Databricks does."""

from urllib.parse import quote

from aiohttp import web

from local.databricks.workspace.storage.model import FileStore
from local.databricks.workspace.storage.uploads import MultipartUploads
from local.databricks.workspace.transport.errors import ErrorCode, WorkspaceError
from local.databricks.workspace.transport.params import JsonObject, Params
from local.databricks.workspace.transport.responses import error_response, json_endpoint
from local.databricks.workspace.transport.tokens import TokenAuthority

__all__ = ["UrlSigner", "signed_routes"]

_CHUNK_BYTES = 1 << 20


class UrlSigner:
    """Makes URLs that read or write one file without a token."""

    def __init__(self, host: str, tokens: TokenAuthority) -> None:
        self._host = host
        self._tokens = tokens

    def sign(self, verb: str, path: str) -> str:
        """Return the URL for GET or PUT of that file."""
        return f"{self._host}/signed{quote(path)}?sig={self._tokens.sign_path(verb, path)}"

    def check(self, request: web.Request) -> str:
        """Return the path that the request may touch; raises if its signature is wrong."""
        path = f"/{request.match_info['path']}"
        verb = "GET" if request.method == "HEAD" else request.method
        if not self._tokens.is_signed_path(verb, path, request.query.get("sig", "")):
            raise WorkspaceError("the signature does not fit the URL", ErrorCode.BAD_REQUEST)
        return path


def signed_routes(files: FileStore, uploads: MultipartUploads, signer: UrlSigner) -> list[web.RouteDef]:
    """Return the routes that sign URLs and the ones that honour them."""

    async def read(request: web.Request) -> web.StreamResponse:
        path = signer.check(request)
        if files.get(path).is_directory:
            return error_response(ErrorCode.NOT_FOUND, f"{path} is a directory", 404)
        return web.FileResponse(files.locate(path), chunk_size=_CHUNK_BYTES)

    async def write(request: web.Request) -> web.StreamResponse:
        path = signer.check(request)
        chunks = request.content.iter_chunked(_CHUNK_BYTES)
        head, _, number = path.rpartition("/")
        if head.startswith("/parts/"):
            etag = await uploads.put_part(head.removeprefix("/parts/"), int(number), chunks)
        else:
            await files.write_stream(path, chunks, overwrite=True)
            etag = '"whole"'
        return web.Response(status=201, headers={"ETag": etag})

    async def abort(request: web.Request) -> web.StreamResponse:
        uploads.abort(signer.check(request).removeprefix("/parts/"))
        return web.Response(status=200)

    return [
        web.get("/signed/{path:.+}", read),
        web.put("/signed/{path:.+}", write),
        web.delete("/signed/{path:.+}", abort),
        *_signing_routes(files, signer),
    ]


def _signing_routes(files: FileStore, signer: UrlSigner) -> list[web.RouteDef]:
    def download_url(params: Params) -> JsonObject:
        path = params.text("path")
        files.get(path)
        return {"url": signer.sign("GET", path), "headers": []}

    def part_urls(params: Params) -> JsonObject:
        token, first = params.text("session_token"), params.integer("start_part_number")
        numbers = range(first, first + params.integer("count"))
        return {
            "upload_part_urls": [
                {"part_number": number, "url": signer.sign("PUT", f"/parts/{token}/{number}"), "headers": []}
                for number in numbers
            ]
        }

    def abort_url(params: Params) -> JsonObject:
        url = signer.sign("DELETE", f"/parts/{params.text('session_token')}")
        return {"abort_upload_url": {"url": url, "headers": []}}

    return [
        web.post("/api/2.0/fs/create-download-url", json_endpoint(download_url)),
        web.post("/api/2.0/fs/create-upload-part-urls", json_endpoint(part_urls)),
        web.post("/api/2.0/fs/create-abort-upload-url", json_endpoint(abort_url)),
    ]

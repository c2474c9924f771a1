"""Serves the Workspace API 2.0."""

import base64

from aiohttp import web

from local.databricks.workspace.transport.errors import NotImplementedLocallyError
from local.databricks.workspace.transport.params import JsonObject, Params, read_params
from local.databricks.workspace.transport.responses import Handler, json_endpoint
from local.databricks.workspace.tree.model import NodeKind, WorkspaceTree
from local.databricks.workspace.tree.wire import node_to_json, parse_import

__all__ = ["tree_routes"]


def tree_routes(tree: WorkspaceTree) -> list[web.RouteDef]:
    """Return the routes below `/api/2.0/workspace` and `/api/2.0/workspace-files`."""

    def mkdirs(params: Params) -> JsonObject:
        tree.make_directories(params.text("path"))
        return {}

    def import_object(params: Params) -> JsonObject:
        wanted = parse_import(params)
        if wanted.language is None:
            tree.write_file(wanted.path, wanted.content, overwrite=wanted.overwrite)
        else:
            tree.write_notebook(wanted.path, wanted.content, wanted.language, overwrite=wanted.overwrite)
        return {}

    def list_objects(params: Params) -> JsonObject:
        nodes = tree.list(params.text("path"))
        return {"objects": [node_to_json(node) for node in nodes]} if nodes else {}

    def get_status(params: Params) -> JsonObject:
        return node_to_json(tree.get(params.text("path")))

    def delete(params: Params) -> JsonObject:
        tree.delete(params.text("path"), recursive=params.boolean("recursive"))
        return {}

    return [
        web.post("/api/2.0/workspace/mkdirs", json_endpoint(mkdirs)),
        web.post("/api/2.0/workspace/import", json_endpoint(import_object)),
        web.get("/api/2.0/workspace/list", json_endpoint(list_objects)),
        web.get("/api/2.0/workspace/get-status", json_endpoint(get_status)),
        web.get("/api/2.0/workspace/export", _exporter(tree)),
        web.post("/api/2.0/workspace/delete", json_endpoint(delete)),
        web.post("/api/2.0/workspace-files/import-file/{path:.+}", _file_importer(tree)),
        web.get("/api/2.0/workspace-files/{path:.+}", _file_exporter(tree)),
    ]


def _exporter(tree: WorkspaceTree) -> Handler:
    async def export(request: web.Request) -> web.StreamResponse:
        params = await read_params(request)
        wanted = params.optional_text("format") or "SOURCE"
        if wanted not in {"SOURCE", "AUTO", "RAW"}:
            raise NotImplementedLocallyError(f"workspace/export with format {wanted}")
        node, content = tree.read(params.text("path"))
        if params.boolean("direct_download"):
            return web.Response(body=content, content_type="application/octet-stream")
        answer: JsonObject = {"content": base64.b64encode(content).decode()}
        if node.kind is NodeKind.NOTEBOOK and node.language is not None:
            answer["file_type"] = node.language.extension.removeprefix(".")
        return web.json_response(answer)

    return export


def _file_importer(tree: WorkspaceTree) -> Handler:
    async def import_file(request: web.Request) -> web.StreamResponse:
        overwrite = request.query.get("overwrite", "false").lower() == "true"
        tree.write_file(f"/{request.match_info['path']}", await request.read(), overwrite=overwrite)
        return web.json_response({})

    return import_file


def _file_exporter(tree: WorkspaceTree) -> Handler:
    async def export_file(request: web.Request) -> web.StreamResponse:
        _, content = tree.read(f"/{request.match_info['path']}")
        return web.Response(body=content, content_type="application/octet-stream")

    return export_file

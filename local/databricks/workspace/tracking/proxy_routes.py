"""Serves the MLflow tracking API: mostly as the MLflow server answers, the rest as Databricks would."""

import json

from aiohttp import web

from local.databricks.workspace.tracking.lineage import ExperimentRun, Lineage
from local.databricks.workspace.tracking.locations import rewritten
from local.databricks.workspace.tracking.upstream import MlflowServer, UpstreamAnswer
from local.databricks.workspace.transport.errors import EndpointNotFoundError
from local.databricks.workspace.transport.params import JsonObject, Params, read_params
from local.databricks.workspace.transport.responses import Handler, json_endpoint
from local.databricks.workspace.tree.model import WorkspaceTree
from local.databricks.workspace.tree.paths import normalized

__all__ = ["proxy_routes"]

_API = "/api/2.0/mlflow"


def proxy_routes(upstream: MlflowServer, tree: WorkspaceTree, lineage: Lineage) -> list[web.RouteDef]:
    """Return the routes for experiments and runs, and the pass-through for everything else of MLflow.

    The pass-through comes last: routes that Databricks alone has must be added before these.
    """
    return [
        *_experiment_routes(upstream, tree),
        web.post(f"{_API}/runs/create", _run_creator(upstream, lineage)),
        web.route("*", "/api/{version:2.0|3.0|4.0}/mlflow/{operation:.+}", _pass_through(upstream)),
    ]


def _experiment_routes(upstream: MlflowServer, tree: WorkspaceTree) -> list[web.RouteDef]:
    async def create(params: Params) -> JsonObject:
        name = params.text("name")
        tree.check_experiment_name(name)
        name = normalized(name)
        answer = await upstream.call("POST", "experiments/create", {**params.values, "name": name})
        tree.record_experiment(name, str(answer["experiment_id"]))
        return answer

    async def get_by_name(params: Params) -> JsonObject:
        name = params.text("experiment_name")
        name = normalized(name) if name.startswith("/") else name
        return await upstream.call("GET", "experiments/get-by-name", {"experiment_name": name})

    async def delete(params: Params) -> JsonObject:
        answer = await upstream.call("POST", "experiments/delete", params.values)
        tree.forget_experiment(params.text("experiment_id"))
        return answer

    return [
        web.post(f"{_API}/experiments/create", json_endpoint(create)),
        web.get(f"{_API}/experiments/get-by-name", json_endpoint(get_by_name)),
        web.post(f"{_API}/experiments/delete", json_endpoint(delete)),
    ]


def _run_creator(upstream: MlflowServer, lineage: Lineage) -> Handler:
    async def create(request: web.Request) -> web.StreamResponse:
        params = await read_params(request)
        tags = list(params.items("tags"))
        present = {tag.get("key") for tag in tags}
        tags += [
            {"key": key, "value": value} for key, value in lineage.job_tags(params.caller).items() if key not in present
        ]
        body = json.dumps({**params.values, "tags": tags}).encode()
        answer = await upstream.forward("POST", request.path, body=body)
        if answer.status == web.HTTPOk.status_code:
            info = json.loads(answer.body)["run"]["info"]
            made = ExperimentRun(mlflow_run_id=info["run_id"], experiment_id=str(info["experiment_id"]))
            lineage.record_experiment_run(params.caller, made)
        return _response(answer, request.path)

    return create


def _pass_through(upstream: MlflowServer) -> Handler:
    async def forward(request: web.Request) -> web.StreamResponse:
        answer = await upstream.forward(
            request.method, request.raw_path.partition("?")[0], request.query_string, await request.read()
        )
        return _response(answer, request.path)

    return forward


def _response(answer: UpstreamAnswer, path: str) -> web.Response:
    """Return the server's answer; its HTML page for an unknown path becomes the code that clients fall back on."""
    unknown = {web.HTTPNotFound.status_code, web.HTTPMethodNotAllowed.status_code}
    if answer.status in unknown and answer.content_type != "application/json":
        raise EndpointNotFoundError(path)
    return web.Response(status=answer.status, body=rewritten(answer.body), content_type=answer.content_type)

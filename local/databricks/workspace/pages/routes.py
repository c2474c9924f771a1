"""Serves the pages, to a browser on this machine, without a token."""

import base64
import secrets

from aiohttp import web

from local.databricks.workspace.jobs.errors import RunMissingError
from local.databricks.workspace.pages.html import message_page, overview_page, run_page
from local.databricks.workspace.pages.model import RunPages
from local.databricks.workspace.transport.responses import Handler

__all__ = ["page_routes"]


def page_routes(pages: RunPages) -> list[web.RouteDef]:
    """Return the overview, the page of each run, and the pictures on it."""
    return [
        web.get("/", _overview(pages)),
        web.get("/ml/{place:.+}", _to_mlflow(pages)),
        web.get(r"/jobs/{job_id:\d+}/runs/{run_id:\d+}", _run(pages)),
        web.get(r"/jobs/{job_id:\d+}/runs/{run_id:\d+}/pictures/{mlflow_run_id}/{path:.+}", _picture(pages)),
    ]


def _overview(pages: RunPages) -> Handler:
    async def overview(_: web.Request) -> web.StreamResponse:
        nonce = _nonce()
        return _html(overview_page(pages.overview(), nonce), nonce)

    return overview


def _run(pages: RunPages) -> Handler:
    async def run(request: web.Request) -> web.StreamResponse:
        nonce = _nonce()
        try:
            page = pages.page(int(request.match_info["run_id"]))
        except RunMissingError as error:
            return _html(message_page(str(error), nonce), nonce, status=404)
        return _html(run_page(page, nonce), nonce)

    return run


def _picture(pages: RunPages) -> Handler:
    async def picture(request: web.Request) -> web.StreamResponse:
        found = pages.picture_file(
            int(request.match_info["run_id"]), request.match_info["mlflow_run_id"], request.match_info["path"]
        )
        if found is None:
            raise web.HTTPNotFound
        return web.FileResponse(
            found, headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
        )

    return picture


def _to_mlflow(pages: RunPages) -> Handler:
    """Lead the links that MLflow's client prints, which are those of a Databricks workspace, to the MLflow server."""

    async def redirect(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(f"{pages.mlflow_url}/#/{request.match_info['place']}")

    return redirect


def _nonce() -> str:
    return base64.b64encode(secrets.token_bytes(12)).decode()


def _html(body: str, nonce: str, status: int = 200) -> web.Response:
    """Return a page on which nothing runs but our own few lines of script: a notebook's output is not ours."""
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'"
    )
    return web.Response(text=body, status=status, content_type="text/html", headers={"Content-Security-Policy": policy})

"""Puts the workspace's parts together into one server."""

import asyncio
import logging
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Middleware

from local.databricks.workspace.clock import Clock
from local.databricks.workspace.compute.model import ClusterBook
from local.databricks.workspace.compute.routes import cluster_routes
from local.databricks.workspace.config import WorkspaceConfig
from local.databricks.workspace.database import open_database
from local.databricks.workspace.identity.routes import identity_routes
from local.databricks.workspace.jobs.cluster_environment import ClusterEnvironment
from local.databricks.workspace.jobs.driver import DriverTools
from local.databricks.workspace.jobs.engine import JobsEngine
from local.databricks.workspace.jobs.launcher import ProcessLauncher, RunFolders
from local.databricks.workspace.jobs.routes import job_routes
from local.databricks.workspace.jobs.store import JobStore
from local.databricks.workspace.jobs.wire import JobsWire
from local.databricks.workspace.pages.model import RunPages
from local.databricks.workspace.pages.routes import page_routes
from local.databricks.workspace.secret_scopes.model import SecretStore
from local.databricks.workspace.secret_scopes.routes import secret_routes
from local.databricks.workspace.storage.dbfs_routes import dbfs_routes
from local.databricks.workspace.storage.files_routes import files_routes
from local.databricks.workspace.storage.model import FileStore
from local.databricks.workspace.storage.signed_routes import UrlSigner, signed_routes
from local.databricks.workspace.storage.uploads import DbfsHandles, MultipartUploads
from local.databricks.workspace.tracking.artifact_routes import artifact_routes
from local.databricks.workspace.tracking.lineage import Lineage
from local.databricks.workspace.tracking.locations import ArtifactLocations
from local.databricks.workspace.tracking.proxy_routes import proxy_routes
from local.databricks.workspace.tracking.registry import ModelCatalog
from local.databricks.workspace.tracking.registry_routes import registry_routes
from local.databricks.workspace.tracking.unity_catalog_routes import unity_catalog_routes
from local.databricks.workspace.tracking.upstream import MlflowServer
from local.databricks.workspace.transport.auth import make_auth
from local.databricks.workspace.transport.errors import NotImplementedLocallyError
from local.databricks.workspace.transport.fault_routes import fault_routes, make_fault_injection
from local.databricks.workspace.transport.faults import FaultPlan
from local.databricks.workspace.transport.responses import ORGANIZATION_ID, Handler, refusals
from local.databricks.workspace.transport.tokens import TokenAuthority
from local.databricks.workspace.transport.unimplemented import known_operation
from local.databricks.workspace.tree.model import WorkspaceTree
from local.databricks.workspace.tree.routes import tree_routes

__all__ = ["make_app"]

_log = logging.getLogger(__name__)

_MAX_BODY_BYTES = 500 * 1024 * 1024
"""What Databricks allows for a workspace file; volumes and artifacts are streamed and have no limit."""

_RUNNER_PACKAGE_FOLDER = Path(__file__).parents[1]
"""The folder that holds the package `runner`."""


@dataclass(slots=True, kw_only=True)
class _Stores:
    """What lies in the state directory."""

    database: sqlite3.Connection
    tree: WorkspaceTree
    dbfs: FileStore
    files: FileStore
    uploads: MultipartUploads
    folders: RunFolders


def make_app(config: WorkspaceConfig, state_dir: Path, host: str, clock: Clock) -> web.Application:
    """Return the workspace as an aiohttp application.

    Args:
        config: What the workspace is told at start.
        state_dir: Where everything is kept; made if need be.
        host: The URL under which clients reach the workspace, without trailing slash.
        clock: Tells the time.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    stores = _open_stores(state_dir, clock)
    tokens = TokenAuthority(config.token, state_dir / "signing.key", clock)
    secrets, clusters = SecretStore(stores.database, clock), ClusterBook(stores.database, clock)
    engine = _make_engine(config, state_dir, host, clock, stores, tokens, ClusterEnvironment(clusters, secrets))
    upstream = MlflowServer(config.mlflow_url)
    lineage = Lineage(stores.database, tokens, engine.store)
    locations, signer = ArtifactLocations(upstream), UrlSigner(host, tokens)
    catalog = ModelCatalog(upstream, stores.database, stores.files)
    wire, faults = JobsWire(host=host), FaultPlan()
    ready = asyncio.Event()

    app = web.Application(
        client_max_size=_MAX_BODY_BYTES,
        middlewares=[refusals, make_fault_injection(faults, engine.kill_run, clock), _known, make_auth(tokens)],
    )
    app.add_routes(identity_routes(tokens, config.identity_header, host, ready.is_set))
    app.add_routes(tree_routes(stores.tree))
    app.add_routes(files_routes(stores.files, stores.uploads))
    app.add_routes(signed_routes(stores.files, stores.uploads, signer))
    app.add_routes(dbfs_routes(stores.dbfs, DbfsHandles(stores.dbfs)))
    app.add_routes(secret_routes(secrets))
    app.add_routes(cluster_routes(clusters))
    app.add_routes(job_routes(engine, wire))
    app.add_routes(unity_catalog_routes(catalog))
    app.add_routes(registry_routes(catalog, lineage))
    app.add_routes(artifact_routes(upstream, locations, stores.files, signer))
    app.add_routes(proxy_routes(upstream, stores.tree, lineage))
    app.add_routes(fault_routes(faults, engine.kill_run))
    app.add_routes(page_routes(RunPages(engine.store, stores.folders, lineage, stores.files, config.mlflow_url)))
    _attach_life_cycle(app, engine, upstream, stores.database, ready)
    return app


def _open_stores(state_dir: Path, clock: Clock) -> _Stores:
    database = open_database(state_dir / "workspace.db")
    internal = state_dir / "internal"
    files = FileStore(
        {
            "Volumes": state_dir / "volumes",
            "Workspace": state_dir / "workspace",
            "WorkspaceInternal": internal / "WorkspaceInternal",
            "Models": internal / "Models",
        }
    )
    return _Stores(
        database=database,
        tree=WorkspaceTree(state_dir / "workspace", database, clock),
        dbfs=FileStore({"": state_dir / "dbfs"}),
        files=files,
        uploads=MultipartUploads(files, state_dir / "uploads"),
        folders=RunFolders(state_dir / "runs"),
    )


def _make_engine(
    config: WorkspaceConfig,
    state_dir: Path,
    host: str,
    clock: Clock,
    stores: _Stores,
    tokens: TokenAuthority,
    environment: ClusterEnvironment,
) -> JobsEngine:
    context = {
        "workspace_root": str(state_dir / "workspace"),
        "dbfs_root": str(state_dir / "dbfs"),
        "volumes_root": str(state_dir / "volumes"),
        "spark_jars_dir": config.spark_jars_dir,
        "storage": {
            "account": config.storage.account,
            "key": config.storage.key,
            "blob_port": config.storage.blob_port,
        },
        "host": host,
    }
    launcher = ProcessLauncher(config.runner_command, _RUNNER_PACKAGE_FOLDER, stores.folders, context, tokens)
    return JobsEngine(
        DriverTools(
            store=JobStore(stores.database),
            launcher=launcher,
            clock=clock,
            slots=asyncio.Semaphore(config.max_concurrent_tasks),
            find_notebook=stores.tree.find_notebook_file,
            environment_of=environment.of_task,
            workspace_id=ORGANIZATION_ID,
            workspace_url=host,
        )
    )


def _attach_life_cycle(
    app: web.Application, engine: JobsEngine, upstream: MlflowServer, database: sqlite3.Connection, ready: asyncio.Event
) -> None:
    async def start(_: web.Application) -> None:
        engine.resume()
        ready.set()
        _log.info("workspace ready")

    async def shut_down(_: web.Application) -> None:
        await engine.close()

    async def clean_up(_: web.Application) -> None:
        await upstream.close()
        database.close()

    async def mark(_: web.Request, response: web.StreamResponse) -> None:
        response.headers["x-databricks-org-id"] = ORGANIZATION_ID

    app.on_startup.append(start)
    app.on_shutdown.append(shut_down)
    app.on_cleanup.append(clean_up)
    app.on_response_prepare.append(mark)


@web.middleware
async def _answer_known(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer 501 with its name to an operation that Databricks has and this workspace lacks."""
    try:
        return await handler(request)
    except (web.HTTPNotFound, web.HTTPMethodNotAllowed) as error:
        operation = known_operation(request.method, request.path)
        if operation is None:
            raise web.HTTPNotFound from error
        raise NotImplementedLocallyError(f"{operation.name} ({request.method} {request.path})") from error


_known: Middleware = _answer_known

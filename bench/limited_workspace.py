"""Answers as a Databricks workspace that takes its time and keeps its limits; its runs only take time.

What the local workspace does not have: a call takes 150 ms however fast the machine is, and more than 20 run-now
calls a second are refused with 429. On demand it refuses a share of all calls besides.
"""

import argparse
import asyncio
import json
import random
import time
import urllib.request
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

__all__ = ["counts"]

RUNS_A_SECOND: Final = 20  # of run-now, as the service documents it
_RETRY_AFTER_S: Final = 1


@dataclass(slots=True)
class _Run:
    id: int
    job_id: int
    started_at: float


@dataclass(slots=True)
class _Workspace:
    latency_s: float
    refused: float
    run_s: float
    rng: random.Random = field(default_factory=lambda: random.Random(7))
    jobs: dict[str, int] = field(default_factory=dict)
    runs: dict[int, _Run] = field(default_factory=dict)
    by_token: dict[str, int] = field(default_factory=dict)
    second: tuple[int, int] = (0, 0)  # the running second, and its run-now calls
    most_active: int = 0
    answered: int = 0
    refusals: int = 0

    def is_active(self, run: _Run) -> bool:
        return time.monotonic() - run.started_at < self.run_s

    def start(self, job_id: int, token: str) -> int:
        if token and token in self.by_token:
            return self.by_token[token]
        run = _Run(len(self.runs) + 1, job_id, time.monotonic())
        self.runs[run.id] = run
        self.by_token[token or f"none {run.id}"] = run.id
        self.most_active = max(self.most_active, sum(map(self.is_active, self.runs.values())))
        return run.id

    def must_refuse(self, path: str) -> bool:
        if self.rng.random() < self.refused:
            return True
        if not path.endswith("/run-now"):
            return False
        now = int(time.monotonic())
        count = self.second[1] + 1 if self.second[0] == now else 1
        self.second = (now, count)
        return count > RUNS_A_SECOND


def _application(workspace: _Workspace) -> web.Application:
    @web.middleware
    async def limits(request: web.Request, handler: Any) -> web.StreamResponse:
        if not request.path.startswith("/api/"):
            return await handler(request)  # type: ignore[no-any-return] # aiohttp's handler
        await asyncio.sleep(workspace.latency_s)
        if workspace.must_refuse(request.path):
            workspace.refusals += 1
            body = {"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "too many requests"}
            return web.json_response(body, status=429, headers={"Retry-After": str(_RETRY_AFTER_S)})
        workspace.answered += 1
        return await handler(request)  # type: ignore[no-any-return] # likewise

    async def jobs_list(request: web.Request) -> web.Response:
        name = request.query.get("name", "")
        job_id = workspace.jobs.setdefault(name, len(workspace.jobs) + 1)
        return web.json_response({"jobs": [{"job_id": job_id, "settings": {"name": name}}]})

    async def run_now(request: web.Request) -> web.Response:
        body = await request.json()
        run_id = workspace.start(int(body["job_id"]), body.get("idempotency_token", ""))
        return web.json_response({"run_id": run_id, "number_in_job": run_id})

    async def runs_list(request: web.Request) -> web.Response:
        job_id = int(request.query.get("job_id", "0"))
        active = [run for run in workspace.runs.values() if run.job_id == job_id and workspace.is_active(run)]
        return web.json_response({"runs": [_state(workspace, run) for run in active[:25]]})

    async def runs_get(request: web.Request) -> web.Response:
        return web.json_response(_state(workspace, workspace.runs[int(request.query["run_id"])]))

    async def counted(_: web.Request) -> web.Response:
        return web.json_response(
            {
                "runs": len(workspace.runs),
                "most_active": workspace.most_active,
                "answered": workspace.answered,
                "refusals": workspace.refusals,
            }
        )

    application = web.Application(middlewares=[limits], client_max_size=2**26)
    application.add_routes(
        [
            *(web.get(f"/api/2.{minor}/jobs/list", jobs_list) for minor in (0, 1, 2)),
            *(web.post(f"/api/2.{minor}/jobs/run-now", run_now) for minor in (0, 1, 2)),
            *(web.get(f"/api/2.{minor}/jobs/runs/list", runs_list) for minor in (0, 1, 2)),
            *(web.get(f"/api/2.{minor}/jobs/runs/get", runs_get) for minor in (0, 1, 2)),
            web.get("/api/2.1/unity-catalog/models/{model}/aliases/{alias}", _alias),
            web.get("/msi/token", _token),
            web.post("/topic/api/events", _topic),
            web.get("/counts", counted),
        ]
    )
    return application


async def _alias(request: web.Request) -> web.Response:
    return web.json_response({"version": 1, "model_name": request.match_info["model"]})


async def _token(request: web.Request) -> web.Response:
    expires = int(time.time()) + 86_400
    resource = request.query.get("resource", "")
    return web.json_response(
        {"access_token": "bench", "expires_on": str(expires), "resource": resource, "token_type": "Bearer"}
    )


async def _topic(request: web.Request) -> web.Response:
    await request.read()
    return web.json_response({})


def _state(workspace: _Workspace, run: _Run) -> dict[str, object]:
    if workspace.is_active(run):
        state: dict[str, str] = {"life_cycle_state": "RUNNING"}
        status: dict[str, object] = {"state": "RUNNING"}
    else:
        state = {"life_cycle_state": "TERMINATED", "result_state": "SUCCESS"}
        details = {"code": "SUCCESS", "type": "SUCCESS", "message": ""}
        status = {"state": "TERMINATED", "termination_details": details}
    return {"run_id": run.id, "job_id": run.job_id, "state": state, "status": status}


def counts(url: str) -> dict[str, int]:
    """Return what a running workspace has counted: runs, most_active, answered, refusals."""
    with urllib.request.urlopen(f"{url}/counts", timeout=10) as response:
        document: dict[str, int] = json.load(response)
    return document


def main() -> None:
    """Serve until terminated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--latency-ms", type=float, default=150.0)
    parser.add_argument("--refused", type=float, default=0.0, help="share of all calls that are refused besides")
    parser.add_argument("--run-s", type=float, default=3.0, help="how long a run takes")
    options = parser.parse_args()
    workspace = _Workspace(latency_s=options.latency_ms / 1000, refused=options.refused, run_s=options.run_s)
    web.run_app(_application(workspace), host="127.0.0.1", port=options.port, print=None, access_log=None)


if __name__ == "__main__":
    main()

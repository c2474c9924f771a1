"""Lets a test script faults, and makes them happen."""

import json
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Middleware

from local.databricks.workspace.clock import Clock
from local.databricks.workspace.transport.faults import FaultAction, FaultPlan, FaultRule
from local.databricks.workspace.transport.params import JsonObject, Params
from local.databricks.workspace.transport.responses import Handler, error_response, json_endpoint

__all__ = ["fault_routes", "make_fault_injection"]

type KillRun = Callable[[int, float], None]
"""Kills the process of a run, so many seconds after it started."""


def fault_routes(plan: FaultPlan, kill_run: KillRun) -> list[web.RouteDef]:
    """Return `/_faults`: POST adds a rule, GET lists them, DELETE clears them, and `/_faults/kill-run`."""

    def add(params: Params) -> JsonObject:
        return _to_json(plan.add(params.values))

    def listing(_: Params) -> JsonObject:
        return {"rules": [_to_json(rule) for rule in plan.rules]}

    def clear(_: Params) -> JsonObject:
        plan.clear()
        return {}

    def kill(params: Params) -> JsonObject:
        kill_run(params.integer("run_id"), 0.0)
        return {}

    return [
        web.post("/_faults", json_endpoint(add)),
        web.get("/_faults", json_endpoint(listing)),
        web.delete("/_faults", json_endpoint(clear)),
        web.post("/_faults/kill-run", json_endpoint(kill)),
    ]


def make_fault_injection(plan: FaultPlan, kill_run: KillRun, clock: Clock) -> Middleware:
    """Return the middleware that makes matched requests go wrong."""

    @web.middleware
    async def inject(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith("/_faults"):
            return await handler(request)
        action = plan.take(request.method, request.path)
        if action is None:
            return await handler(request)
        return await _apply(action, request, handler, kill_run, clock)

    return inject


async def _apply(
    action: FaultAction, request: web.Request, handler: Handler, kill_run: KillRun, clock: Clock
) -> web.StreamResponse:
    if action.delay_s:
        await clock.sleep(action.delay_s)
    if action.status is not None:
        return _refusal(action, action.status)
    response = await handler(request)
    if action.kill_run_after_s is not None:
        kill_run(_answered_run_id(response), action.kill_run_after_s)
    if action.drop_response and request.transport is not None:
        request.transport.abort()
    return response


def _refusal(action: FaultAction, status: int) -> web.Response:
    if action.body is not None:
        refusal = web.json_response(action.body, status=status)
    else:
        codes = {429: "REQUEST_LIMIT_EXCEEDED", 503: "TEMPORARILY_UNAVAILABLE"}
        refusal = error_response(codes.get(status, "INTERNAL_ERROR"), "scripted fault", status)
    if action.retry_after is not None:
        refusal.headers["Retry-After"] = action.retry_after
    return refusal


def _answered_run_id(response: web.StreamResponse) -> int:
    body: Any = response.body if isinstance(response, web.Response) else b"{}"  # Any: aiohttp's payload union
    return int(json.loads(body).get("run_id", 0))


def _to_json(rule: FaultRule) -> JsonObject:
    return {
        "id": rule.rule_id,
        "method": rule.method,
        "path": rule.path.pattern,
        "remaining": rule.remaining,
        "hits": rule.hits,
    }

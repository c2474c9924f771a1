"""A Functions app whose HTTP functions show what the host gave them; it needs no storage."""

import asyncio
import json
import logging
import os
import threading
import time
from pathlib import Path

import azure.functions as func
from opentelemetry import trace

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)

_meeting: dict[str, asyncio.Barrier] = {}


def _json(content: object) -> func.HttpResponse:
    return func.HttpResponse(json.dumps(content), mimetype="application/json")


@app.route("echo/{id:int?}", methods=["GET", "POST"])
def echo(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """Answer with what was received."""
    return _json(
        {
            "method": req.method,
            "url": req.url,
            "params": dict(req.route_params),
            "query": dict(req.params),
            "headers": dict(req.headers),
            "body": req.get_body().decode(),
            "traceparent": context.trace_context.trace_parent,
            "setting": os.environ.get("SOME_SETTING"),
            "path": str(Path.cwd()),
        }
    )


@app.route("echo/special", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def special(req: func.HttpRequest) -> func.HttpResponse:
    """Show that a literal wins over a parameter, without a key."""
    response = func.HttpResponse("special", status_code=201, headers={"x-extra": req.method})
    response.headers.add("Set-Cookie", "a=1; Path=/; HttpOnly")
    response.headers.add("Set-Cookie", "b=2; Max-Age=60; SameSite=Lax")
    return response


@app.route("admin-only", auth_level=func.AuthLevel.ADMIN)
async def admin_only(req: func.HttpRequest) -> func.HttpResponse:
    """Need the master key."""
    return func.HttpResponse(req.method)


@app.route("switched-off")
def switched_off(req: func.HttpRequest) -> func.HttpResponse:
    """Answer although disabled, to administrators."""
    return func.HttpResponse(req.method)


@app.route("broken")
def broken(req: func.HttpRequest) -> func.HttpResponse:
    """Fail."""
    raise ValueError(f"boom on {req.method}")


@app.route("nonsense")
def nonsense(req: func.HttpRequest) -> func.HttpResponse:
    """Return what is no response."""
    return {"method": req.method}  # type: ignore[return-value]  # the mistake is the point


@app.route("slow")
def slow(req: func.HttpRequest) -> func.HttpResponse:
    """Take as long as asked, in a thread."""
    time.sleep(float(req.params["s"]))
    return _json({"thread": threading.current_thread().name})


@app.route("meet")
async def meet(req: func.HttpRequest) -> func.HttpResponse:
    """Wait until a second caller has come."""
    barrier = _meeting.setdefault("here", asyncio.Barrier(2))
    async with asyncio.timeout(20):
        await barrier.wait()
    return func.HttpResponse(req.method)


@app.route("mirror", methods=["POST"])
def mirror(req: func.HttpRequest) -> func.HttpResponse:
    """Send the body back."""
    return func.HttpResponse(req.get_body(), mimetype="application/octet-stream")


@app.route("context")
def context_of_sync_function(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """Log, and answer with the invocation's id."""
    logging.getLogger("test").info("seen by %s", req.method)
    return _json({"invocation_id": context.invocation_id})


@app.route("otel")
def otel(req: func.HttpRequest) -> func.HttpResponse:
    """Answer with the OpenTelemetry parent that a span here would have."""
    del req
    parent = trace.get_current_span().get_span_context()
    return _json({"trace_id": f"{parent.trace_id:032x}", "span_id": f"{parent.span_id:016x}"})


@app.timer_trigger(schedule="0 0 0 1 1 *", arg_name="timer", use_monitor=False)
def never(timer: func.TimerRequest) -> None:
    """Record that somebody fired it by hand."""
    Path(os.environ["RECORD_FILE"]).write_text(json.dumps({"function": "never", "past_due": timer.past_due}) + "\n")

"""Listens to Tidegate's events as an Azure Function, and keeps how each attempt ended in a table.

The trigger is HTTP rather than Event Grid, because the Event Grid trigger's own webhook refuses the handshake of
CloudEvents, which Tidegate's topic speaks.
"""

import os
import time
from collections.abc import Mapping
from functools import cache
from typing import Any

import azure.functions as func

from dedupe import Handled, TableSeenEvents, handle_once, key_of
from webhook import answer

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)


@app.function_name("events")
@app.route(route="events", methods=["POST", "OPTIONS"])
def events(req: func.HttpRequest) -> func.HttpResponse:
    """Answer Event Grid: its handshakes and its deliveries."""
    try:
        reply = answer(req.method, dict(req.headers), req.get_body(), receive=_receive)
    except ValueError as error:  # an event without an identity: nothing that comes later can mend it
        return func.HttpResponse(str(error), status_code=400)
    return func.HttpResponse(reply.body, status_code=reply.status, headers=dict(reply.headers))


@app.function_name("forget")
@app.timer_trigger(arg_name="timer", schedule="0 0 4 * * *")
def forget(timer: func.TimerRequest) -> None:
    """Forget events that were handled long ago."""
    del timer
    TableSeenEvents(_table("seenevents")).purge(now=time.time())


def _receive(event: Mapping[str, Any]) -> bool:
    """Keep what an event says; handling it twice writes the same row, so the mark comes after."""
    seen = TableSeenEvents(_table("seenevents"))
    return handle_once(seen, key_of(event), lambda: _keep(event)) is not Handled.BUSY


def _keep(event: Mapping[str, Any]) -> None:
    data = event.get("data")
    if not isinstance(data, dict) or "outcome" not in data:
        return  # no completion event
    # One row per announcer: the control plane's corrects the notebook's, in whatever order the two arrive.
    row = {
        "PartitionKey": str(data["pipeline"]),
        "RowKey": f"{data['run_id']}.{data['attempt']}.{data['announced_by']}",
        "outcome": str(data["outcome"]),
        "event_id": str(event["id"]),
    }
    _table("ends").upsert_entity(row)


@cache
def _table(name: str) -> Any:
    """Return a table's client, making the table the first time; imported late, so that indexing stays quick."""
    from azure.data.tables import TableServiceClient

    account = os.environ.get("SUBSCRIBER_STORAGE__accountName")  # noqa: SIM112 - as the Functions host spells it
    if account is None:
        service = TableServiceClient.from_connection_string(os.environ["SUBSCRIBER_STORAGE"])
    else:
        from azure.identity import ManagedIdentityCredential

        service = TableServiceClient(
            f"https://{account}.table.core.windows.net", credential=ManagedIdentityCredential()
        )
    return service.create_table_if_not_exists(name)

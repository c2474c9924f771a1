"""Maps the paths of the ingestion endpoint, and of its readers, to what answers them."""

import re
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from aiohttp import web

from local.app_insights.items import InvalidItemError, Item, envelopes_in, item_type_named, parse_item
from local.app_insights.pages import index_page, missing_page, trace_page
from local.app_insights.storage import Storage
from local.app_insights.traces import make_trace
from local.event_grid.wire import Json, JsonObject, compact

__all__ = ["make_app"]

MAX_BODY_BYTES: Final = 32 * 1024 * 1024
LISTED_TRACES: Final = 100
_TRACK: Final = re.compile(r"/v2(\.1)?/track/?")
_LIVE: Final = re.compile(r"/QuickPulseService\.svc/(ping|post)", re.IGNORECASE)
_TRACE: Final = re.compile(r"/trace/(.+)")


class _Routes:
    """The handlers, with what they need."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def handle(self, request: web.Request) -> web.Response:
        """Answer any request; exporters put a second slash before the path, so slashes are counted as one."""
        path = re.sub(r"/{2,}", "/", request.path)
        if request.method == "POST" and _TRACK.fullmatch(path):
            return await self._track(request)
        if request.method == "POST" and _LIVE.fullmatch(path):
            return await _not_subscribed(request)
        if request.method == "GET" and (page := self._page(path, request)) is not None:
            return page
        message = f"{request.method} {path} is not implemented by this emulator"
        return _json(HTTPStatus.NOT_IMPLEMENTED, {"error": {"code": "NotImplemented", "message": message}})

    def _page(self, path: str, request: web.Request) -> web.Response | None:
        """Return what a reader asked for, or None if there is no such page."""
        if path == "/":
            return self._index()
        if path == "/health":
            return _json(HTTPStatus.OK, {"status": "ok"})
        if path == "/telemetry":
            return self._telemetry(request)
        found = _TRACE.fullmatch(path)
        return None if found is None else self._trace(found[1])

    async def _track(self, request: web.Request) -> web.Response:
        """Keep what can be read; say which items could not."""
        try:
            envelopes = envelopes_in(await request.read())
        except (InvalidItemError, web.HTTPException, web.RequestPayloadError) as error:
            return _json(HTTPStatus.BAD_REQUEST, _receipt(0, 0, [_mistake(0, str(error))]))
        items: list[Item] = []
        mistakes: list[Json] = []
        for place, envelope in enumerate(envelopes):
            try:
                items.append(parse_item(envelope))
            except InvalidItemError as error:
                mistakes.append(_mistake(place, str(error)))
        self._storage.keep(items)
        status = HTTPStatus.OK if not mistakes else HTTPStatus.PARTIAL_CONTENT if items else HTTPStatus.BAD_REQUEST
        return _json(status, _receipt(len(envelopes), len(items), mistakes))

    def _telemetry(self, request: web.Request) -> web.Response:
        query = request.query
        since: datetime | None = None
        if "since" in query:
            try:
                # A plus sign that was not escaped arrives as a space.
                since = datetime.fromisoformat(query["since"].replace(" ", "+"))
            except ValueError:
                reason = f"since must be a time in ISO 8601, got {query['since']!r}"
                return _json(HTTPStatus.BAD_REQUEST, {"error": {"code": "BadArgument", "message": reason}})
            since = since if since.tzinfo else since.replace(tzinfo=UTC)
        items = self._storage.find(
            operation_id=query.get("operation_id") or None,
            item_type=item_type_named(query["item_type"]) if query.get("item_type") else None,
            since=since,
        )
        return _json(HTTPStatus.OK, [item.document() for item in items])

    def _index(self) -> web.Response:
        operations = self._storage.latest_operations(LISTED_TRACES)
        traces = [make_trace(key, self._storage.find(operation_id=key)) for key in operations]
        return _html(HTTPStatus.OK, index_page(sorted(traces, key=lambda trace: trace.start, reverse=True)))

    def _trace(self, operation_id: str) -> web.Response:
        items = self._storage.find(operation_id=operation_id)
        if not items:
            return _html(HTTPStatus.NOT_FOUND, missing_page(operation_id))
        return _html(HTTPStatus.OK, trace_page(make_trace(operation_id, items)))


async def _not_subscribed(request: web.Request) -> web.Response:
    """Tell the live-metrics client that nobody is watching, so that it stays quiet."""
    await request.read()
    headers = {
        "x-ms-qps-subscribed": "false",
        "x-ms-qps-configuration-etag": "",
        "x-ms-qps-service-polling-interval-hint": "60000",
    }
    document: JsonObject = {"ETag": "", "Metrics": [], "DocumentStreams": []}
    return web.Response(body=compact(document), content_type="application/json", headers=headers)


def _receipt(received: int, accepted: int, mistakes: list[Json]) -> JsonObject:
    return {"itemsReceived": received, "itemsAccepted": accepted, "errors": mistakes}


def _mistake(place: int, reason: str) -> JsonObject:
    return {"index": place, "statusCode": 400, "message": reason}


def _json(status: int, document: Json) -> web.Response:
    return web.Response(status=status, body=compact(document), content_type="application/json")


def _html(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text, content_type="text/html")


def make_app(storage: Storage) -> web.Application:
    """Return the application of the one port."""
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.router.add_route("*", "/{tail:.*}", _Routes(storage).handle)
    return app

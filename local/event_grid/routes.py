"""Maps the paths of the Event Grid port to what answers them."""

import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from aiohttp import web

from local.event_grid.arm import ResourceProvider
from local.event_grid.auth import authorize
from local.event_grid.config import Settings
from local.event_grid.delivery import Dispatcher
from local.event_grid.errors import BadRequestError, EventGridError, NotFoundError, TooLargeError
from local.event_grid.events import parse_published
from local.event_grid.faults import FaultKind, Faults, parse_fault
from local.event_grid.store import Delivery, Store
from local.event_grid.wire import Json, JsonObject, compact, parse_json, utc_text

__all__ = ["make_app"]

MAX_PUBLISH_BYTES: Final = 1024 * 1024
_LOG = logging.getLogger(__name__)


class _Routes:
    """The handlers, with what they need."""

    def __init__(
        self, settings: Settings, dispatcher: Dispatcher, store: Store, faults: Faults, now: Callable[[], float]
    ) -> None:
        self._settings, self._dispatcher, self._store = settings, dispatcher, store
        self._faults, self._now = faults, now

    async def health(self, request: web.Request) -> web.Response:
        """Say that both ports answer."""
        del request
        return _answer(HTTPStatus.OK, {"status": "ok"})

    async def publish(self, request: web.Request) -> web.Response:
        """Accept events for a topic; they are kept before the publisher gets its 200."""
        topic = self._settings.topics.get(request.match_info["topic"])
        if topic is None:
            raise NotFoundError(f"the topic {request.match_info['topic']!r} was not found")
        authorize(
            headers=request.headers,
            query=request.query,
            url=f"{request.scheme}://{request.host}{request.path}",
            keys=topic.keys,
            now=datetime.fromtimestamp(self._now(), UTC),
        )
        fault = self._faults.take_for_publishing(topic.name)
        if fault is not None and fault.kind is FaultKind.REFUSE_PUBLISH:
            return _answer(fault.status, _scripted(fault.status))
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge as error:
            raise TooLargeError(f"The maximum size ({MAX_PUBLISH_BYTES}) has been exceeded.") from error
        events = parse_published(
            body, headers=request.headers, schema=topic.input_schema, topic=topic.name, topic_id=topic.resource_id
        )
        self._dispatcher.accept(events)
        _LOG.info("published", extra={"topic": topic.name, "events": len(events)})
        if fault is not None:
            return _answer(fault.status, _scripted(fault.status))
        return web.Response(status=HTTPStatus.OK)

    async def add_faults(self, request: web.Request) -> web.Response:
        """Script one fault, or a list of them."""
        document = await _json_of(request)
        faults = [parse_fault(item) for item in (document if isinstance(document, list) else [document])]
        added: list[Json] = [self._faults.add(fault).document() for fault in faults]
        return _answer(HTTPStatus.CREATED, {"faults": added})

    async def show_faults(self, request: web.Request) -> web.Response:
        """List the faults that are still to strike."""
        del request
        return _answer(HTTPStatus.OK, {"faults": [fault.document() for fault in self._faults.all()]})

    async def clear_faults(self, request: web.Request) -> web.Response:
        """Forget all faults."""
        del request
        self._faults.clear()
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def redeliver(self, request: web.Request) -> web.Response:
        """Deliver an event again to the subscriptions that it went to, as at-least-once delivery may at any time."""
        document = await _json_of(request)
        if not isinstance(document, dict) or not isinstance(document.get("event_id"), str):
            raise BadRequestError("the body must be an object with a string event_id")
        times, subscription = document.get("times", 1), document.get("subscription")
        if not isinstance(times, int) or isinstance(times, bool) or not 1 <= times <= 1000:  # noqa: PLR2004 - a sane bound
            raise BadRequestError(f"times must be a whole number from 1 to 1000, got {times!r}")
        if not isinstance(subscription, str | None):
            raise BadRequestError(f"subscription must be a string, got {subscription!r}")
        event_id = str(document["event_id"])
        count = self._store.redeliver(event_id, copies=times, subscription=subscription, now=self._now())
        if not count:
            raise NotFoundError(f"no event with id {event_id!r} was delivered to {subscription or 'any subscription'}")
        self._dispatcher.wake()
        return _answer(HTTPStatus.ACCEPTED, {"event_id": event_id, "deliveries": count})

    async def deliveries(self, request: web.Request) -> web.Response:
        """List the latest deliveries, newest first."""
        try:
            limit = min(int(request.query.get("limit", "100")), 1000)
        except ValueError as error:
            raise BadRequestError("limit must be a whole number") from error
        found = self._store.deliveries(
            event_id=request.query.get("event_id"), subject_contains=request.query.get("subject_contains"), limit=limit
        )
        return _answer(HTTPStatus.OK, {"deliveries": [_shown(item) for item in found]})


async def _json_of(request: web.Request) -> Json:
    try:
        return parse_json(await request.read())
    except ValueError as error:
        raise BadRequestError(f"the body is not JSON: {error}") from error


def _shown(item: Delivery) -> JsonObject:
    return {
        "id": item.id,
        "event_id": item.event.id,
        "event_type": item.event.type,
        "subject": item.event.subject,
        "subscription": item.subscription.partition("/")[2],
        "source": item.subscription.partition("/")[0],
        "state": item.state.value,
        "attempts": item.attempts,
        "published_at": utc_text(item.published_at),
        "due": utc_text(item.due),
        "last_outcome": item.last_outcome,
        "last_status": item.last_status,
        "reason": item.reason,
        "event": item.event.body,
    }


def _scripted(status: int) -> JsonObject:
    return {"error": {"code": "ScriptedFault", "message": f"a scripted fault answered {status}"}}


def _answer(status: int, document: JsonObject) -> web.Response:
    return web.Response(status=status, body=compact(document), content_type="application/json")


@web.middleware
async def _refusals(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Write the service's errors as the service does, and name what is not implemented."""
    try:
        return await handler(request)
    except EventGridError as error:
        return _answer(error.status, error.document())
    except (web.HTTPNotFound, web.HTTPMethodNotAllowed):
        message = f"{request.method} {request.path} is not implemented by this emulator"
        return _answer(HTTPStatus.NOT_IMPLEMENTED, {"error": {"code": "NotImplemented", "message": message}})


def make_app(
    *,
    settings: Settings,
    dispatcher: Dispatcher,
    store: Store,
    faults: Faults,
    provider: ResourceProvider,
    now: Callable[[], float],
) -> web.Application:
    """Return the application of the Event Grid port."""
    routes = _Routes(settings, dispatcher, store, faults, now)
    app = web.Application(client_max_size=MAX_PUBLISH_BYTES, middlewares=[_refusals])
    app.add_routes(
        [
            web.get("/health", routes.health),
            web.post("/topics/{topic}/api/events", routes.publish),
            web.get("/_faults", routes.show_faults),
            web.post("/_faults", routes.add_faults),
            web.delete("/_faults", routes.clear_faults),
            web.post("/_redeliver", routes.redeliver),
            web.get("/_deliveries", routes.deliveries),
            web.get("/_validate", provider.confirm),
            web.post("/_validate", provider.confirm),
            web.route("*", "/subscriptions/{tail:.*}", provider.handle),
        ]
    )
    return app

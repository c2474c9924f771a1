"""Answers the resource provider's requests: subscriptions, and what is known of topics."""

import asyncio
import re
import secrets
import uuid
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from typing import Final

import aiohttp
from aiohttp import web

from local.event_grid.config import STORAGE_SOURCE, Settings
from local.event_grid.delivery import Dispatcher
from local.event_grid.errors import BadRequestError, EventGridError, NotFoundError, NotImplementedHereError
from local.event_grid.events import EventSchema
from local.event_grid.handshake import Consented, Refused, Waiting, shake_hands
from local.event_grid.schedule import DestinationKind
from local.event_grid.store import Store, StoredSubscription
from local.event_grid.subscriptions import (
    ProvisioningState,
    Subscription,
    Subscriptions,
    parse_subscription,
    with_state,
)
from local.event_grid.wire import Json, JsonObject, as_object, compact, parse_json

__all__ = ["ResourceProvider"]

MANUAL_VALIDATION_S: Final = 600
_TOPIC: Final = re.compile(r"/providers/microsoft\.eventgrid/topics/([^/]+)", re.IGNORECASE)
_ACCOUNT: Final = re.compile(r"/providers/microsoft\.storage/storageaccounts/([^/]+)", re.IGNORECASE)
_SYSTEM_TOPIC: Final = re.compile(r"/providers/microsoft\.eventgrid/systemtopics/([^/]+)", re.IGNORECASE)
_SUBSCRIPTIONS: Final = re.compile(
    r"(?P<scope>.*?)(?:/providers/microsoft\.eventgrid)?/eventsubscriptions(?:/(?P<name>[^/]+)(?:/(?P<action>\w+))?)?/?",
    re.IGNORECASE,
)
_NAME: Final = re.compile(r"[A-Za-z0-9-]{3,64}")


class ResourceProvider:
    """The management plane: makes, shows and deletes subscriptions."""

    def __init__(
        self,
        *,
        settings: Settings,
        subscriptions: Subscriptions,
        store: Store,
        dispatcher: Dispatcher,
        session: aiohttp.ClientSession,
        base_url: str,
        now: Callable[[], float],
    ) -> None:
        self._settings, self._subscriptions, self._store = settings, subscriptions, store
        self._dispatcher, self._session, self._base_url, self._now = dispatcher, session, base_url, now
        self._changing = asyncio.Lock()

    def load(self) -> list[Subscription]:
        """Bring back the subscriptions made at run time, then those of the configuration file; return the latter."""
        for kept in self._store.subscriptions():
            if kept.source == STORAGE_SOURCE or kept.source in self._settings.topics:
                self._subscriptions.put(
                    replace(
                        self._parse(kept.properties, kept.name, kept.source, kept.resource_id),
                        state=ProvisioningState(kept.state),
                        validation_code=kept.validation_code,
                        state_since=kept.state_since,
                    )
                )
        configured = []
        for item in self._settings.subscriptions:
            resource_id = f"{self._source_id(item.source)}/providers/Microsoft.EventGrid/eventSubscriptions/{item.name}"
            subscription = self._parse(item.properties, item.name, item.source, resource_id)
            if subscription.kind is DestinationKind.WEBHOOK:
                subscription = with_state(subscription, ProvisioningState.CREATING, now=self._now())
                subscription = replace(subscription, validation_code=_new_code())
            self._subscriptions.put(subscription)
            configured.append(subscription)
        return configured

    async def validate_until_consent(self, subscription: Subscription) -> None:
        """Shake hands with a webhook of the configuration file until it consents: it may start after us."""
        while self._subscriptions.get(subscription.key) is subscription:
            if isinstance(await self._ask(subscription), Consented):
                self._subscriptions.put(with_state(subscription, ProvisioningState.SUCCEEDED, now=self._now()))
                return
            await asyncio.sleep(max(0.2, 5 * self._settings.time_scale))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer any request under /subscriptions/."""
        try:
            return await self._route(request)
        except EventGridError as error:
            code = "InvalidRequest" if type(error) is BadRequestError else error.code
            document: JsonObject = {"error": {"code": code, "message": error.message}}
            return _answer(error.status, document)

    async def confirm(self, request: web.Request) -> web.StreamResponse:
        """Answer a validation URL that somebody opened, or posted to for CloudEvents."""
        wanted = request.query.get("id", "")
        for subscription in self._subscriptions:
            if wanted and secrets.compare_digest(subscription.validation_code, wanted):
                if subscription.state is ProvisioningState.AWAITING_MANUAL_ACTION:
                    if self._now() - subscription.state_since > MANUAL_VALIDATION_S * self._settings.time_scale:
                        self._keep(with_state(subscription, ProvisioningState.FAILED, now=self._now()))
                        return _answer(
                            HTTPStatus.BAD_REQUEST, _error("ValidationExpired", "the validation URL has expired")
                        )
                    self._keep(with_state(subscription, ProvisioningState.SUCCEEDED, now=self._now()))
                return web.Response(text="Webhook successfully validated as a subscription endpoint")
        return _answer(HTTPStatus.NOT_FOUND, _error("NotFound", "no subscription waits for this validation"))

    async def _route(self, request: web.Request) -> web.StreamResponse:
        found = _SUBSCRIPTIONS.fullmatch(request.path)
        if found is None:
            return self._topic(request)
        source = self._source_of(found["scope"])
        if found["name"] is None:
            self._allow(request, "GET")
            shown: list[Json] = [self._shown(item) for item in self._subscriptions.of(source)]
            return _answer(HTTPStatus.OK, {"value": shown})
        key = f"{source}/{found['name']}"
        if found["action"] is not None:
            return self._action(request, key, found["action"])
        match request.method:
            case "PUT":
                return await self._put(request, source, found["name"])
            case "DELETE":
                return await self._delete(key)
            case _:
                self._allow(request, "GET")
                return _answer(HTTPStatus.OK, self._shown(self._existing(key)))

    def _action(self, request: web.Request, key: str, action: str) -> web.Response:
        subscription = self._existing(key)
        if request.method == "POST" and action.lower() == "getfullurl":
            if subscription.kind is not DestinationKind.WEBHOOK:
                raise BadRequestError("only a webhook has a full URL")
            return _answer(HTTPStatus.OK, {"endpointUrl": subscription.target})
        raise NotImplementedHereError(f"{request.method} {action} is not implemented by this emulator")

    async def _put(self, request: web.Request, source: str, name: str) -> web.Response:
        if not _NAME.fullmatch(name):
            raise BadRequestError(f"a subscription's name has 3 to 64 letters, digits and hyphens, got {name!r}")
        try:
            document = as_object(parse_json(await request.read()))
        except ValueError as error:
            raise BadRequestError(f"the body is not JSON: {error}") from error
        subscription = self._parse(as_object(document.get("properties")), name, source, request.path)
        if subscription.kind is DestinationKind.WEBHOOK:
            subscription = await self._validated(subscription)
        async with self._changing:
            self._keep(subscription)
            self._dispatcher.watch(subscription.key)
        return _answer(HTTPStatus.CREATED, self._shown(subscription))

    async def _validated(self, subscription: Subscription) -> Subscription:
        asked = replace(subscription, validation_code=_new_code())
        answer = await self._ask(asked)
        if isinstance(answer, Consented):
            return with_state(asked, ProvisioningState.SUCCEEDED, now=self._now())
        if isinstance(answer, Waiting):
            return with_state(asked, ProvisioningState.AWAITING_MANUAL_ACTION, now=self._now())
        base = subscription.target.partition("?")[0]
        raise UrlValidationError(f"Webhook validation handshake failed for {base}: {answer.reason}.")

    async def _ask(self, subscription: Subscription) -> Consented | Waiting | Refused:
        return await shake_hands(
            self._session,
            subscription,
            topic_id=self._source_id(subscription.source),
            validation_url=f"{self._base_url}/_validate?id={subscription.validation_code}",
            now=self._now(),
            time_scale=self._settings.time_scale,
        )

    async def _delete(self, key: str) -> web.Response:
        async with self._changing:
            if (removed := self._subscriptions.remove(key)) is None:
                return web.Response(status=HTTPStatus.NO_CONTENT)
            self._store.forget_subscription(removed.key)
            await self._dispatcher.unwatch(removed.key)
        return web.Response(status=HTTPStatus.OK)

    def _keep(self, subscription: Subscription) -> None:
        self._store.keep_subscription(
            subscription.key,
            StoredSubscription(
                name=subscription.name,
                source=subscription.source,
                resource_id=subscription.resource_id,
                state=subscription.state.value,
                validation_code=subscription.validation_code,
                state_since=subscription.state_since,
                properties=subscription.properties,
            ),
        )
        self._subscriptions.put(subscription)

    def _parse(self, properties: JsonObject, name: str, source: str, resource_id: str) -> Subscription:
        topic = self._settings.topics.get(source)
        schema = EventSchema.EVENT_GRID if topic is None else topic.input_schema
        return parse_subscription(properties, name=name, source=source, resource_id=resource_id, input_schema=schema)

    def _existing(self, key: str) -> Subscription:
        if (subscription := self._subscriptions.get(key)) is None:
            raise NotFoundError(f"the event subscription {key.partition('/')[2]!r} was not found")
        return subscription

    def _source_id(self, source: str) -> str:
        topic = self._settings.topics.get(source)
        return self._settings.storage_resource_id if topic is None else topic.resource_id

    def _source_of(self, scope: str) -> str:
        if topic := _TOPIC.search(scope):
            for name in self._settings.topics:
                if name.lower() == topic[1].lower():
                    return name
            raise NotFoundError(f"the topic {topic[1]!r} was not found")
        if account := _ACCOUNT.search(scope):
            if account[1].lower() == self._settings.account.lower():
                return STORAGE_SOURCE
            raise NotFoundError(f"the storage account {account[1]!r} was not found")
        if _SYSTEM_TOPIC.search(scope):
            return STORAGE_SOURCE  # the only account's system topic, whatever it is called
        raise NotImplementedHereError(f"event subscriptions of scope {scope!r} are not implemented by this emulator")

    def _shown(self, subscription: Subscription) -> JsonObject:
        properties: JsonObject = {
            **subscription.properties,
            "topic": self._source_id(subscription.source),
            "provisioningState": subscription.state.value,
            "eventDeliverySchema": subscription.schema.value,
            "retryPolicy": {
                "maxDeliveryAttempts": subscription.retry.max_delivery_attempts,
                "eventTimeToLiveInMinutes": subscription.retry.event_ttl_minutes,
            },
        }
        if subscription.kind is DestinationKind.WEBHOOK:
            destination = as_object(properties.get("destination"))
            details = {
                name: value for name, value in as_object(destination.get("properties")).items() if name != "endpointUrl"
            }
            # The query may hold a key, so it is shown by getFullUrl only.
            base = subscription.target.partition("?")[0]
            properties["destination"] = {**destination, "properties": {**details, "endpointBaseUrl": base}}
        return {
            "id": subscription.resource_id,
            "name": subscription.name,
            "type": "Microsoft.EventGrid/eventSubscriptions",
            "properties": properties,
        }

    def _topic(self, request: web.Request) -> web.Response:
        """Show a topic of the configuration file, or its keys."""
        found = re.fullmatch(
            r".*/providers/microsoft\.eventgrid/topics(?:/([^/]+)(?:/(\w+))?)?/?", request.path, re.IGNORECASE
        )
        operation = f"{request.method} {request.path}"
        if found is None:
            raise NotImplementedHereError(f"{operation} is not implemented by this emulator")
        if found[1] is None and request.method == "GET":
            shown: list[Json] = [self._shown_topic(name) for name in self._settings.topics]
            return _answer(HTTPStatus.OK, {"value": shown})
        topic = self._settings.topics[self._source_of(request.path)] if found[1] else None
        if topic is not None and found[2] is None and request.method == "GET":
            return _answer(HTTPStatus.OK, self._shown_topic(topic.name))
        if topic is not None and str(found[2]).lower() == "listkeys" and request.method == "POST":
            return _answer(HTTPStatus.OK, {"key1": topic.keys[0], "key2": topic.keys[-1]})
        raise NotImplementedHereError(f"{operation} is not implemented by this emulator")

    def _shown_topic(self, name: str) -> JsonObject:
        topic = self._settings.topics[name]
        return {
            "id": topic.resource_id,
            "name": topic.name,
            "type": "Microsoft.EventGrid/topics",
            "location": "local",
            "properties": {
                "provisioningState": "Succeeded",
                "endpoint": f"{self._base_url}/topics/{topic.name}/api/events",
                "inputSchema": topic.input_schema.value,
            },
        }

    def _allow(self, request: web.Request, *methods: str) -> None:
        if request.method not in methods:
            raise NotImplementedHereError(f"{request.method} {request.path} is not implemented by this emulator")


class UrlValidationError(BadRequestError):
    """A webhook did not pass the handshake."""

    code = "Url validation"


def _new_code() -> str:
    return str(uuid.uuid4()).upper()


def _answer(status: int, document: JsonObject) -> web.Response:
    return web.Response(status=status, body=compact(document), content_type="application/json")


def _error(code: str, message: str) -> JsonObject:
    return {"error": {"code": code, "message": message}}

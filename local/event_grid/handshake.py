"""Asks a webhook whether it wants the events of a subscription, before it gets any."""

import asyncio
import uuid
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import aiohttp
from yarl import URL

from local.event_grid.destinations import ORIGIN
from local.event_grid.events import EventSchema
from local.event_grid.subscriptions import Subscription
from local.event_grid.wire import JsonObject, as_object, compact, parse_json, utc_text

__all__ = ["Consented", "Refused", "Waiting", "shake_hands"]

ANSWER_WITHIN_S: Final = 30.0
RETRY_AFTER_S: Final = 5.0
ATTEMPTS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Consented:
    """The endpoint answered as the protocol asks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The endpoint is there but did not consent yet; somebody may still open the validation URL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The endpoint cannot be used."""

    reason: str


async def shake_hands(
    session: aiohttp.ClientSession,
    subscription: Subscription,
    *,
    topic_id: str,
    validation_url: str,
    now: float,
    time_scale: float,
) -> Consented | Waiting | Refused:
    """Return what the endpoint says, asking a second time if the first attempt fails.

    Args:
        session: To ask with.
        subscription: Its schema chooses the protocol; its validation code is the secret of the Event Grid one.
        topic_id: The source's resource id.
        validation_url: What a person may open instead, within ten minutes.
        now: The time that the validation event carries.
        time_scale: Shortens the pause between the attempts.
    """
    ask = _ask_by_event if subscription.schema is EventSchema.EVENT_GRID else _ask_by_options
    answer: Consented | Waiting | Refused = Refused(reason="it was not asked")
    for attempt in range(ATTEMPTS):
        if attempt:
            await asyncio.sleep(RETRY_AFTER_S * time_scale)
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                answer = await ask(session, subscription, topic_id=topic_id, validation_url=validation_url, now=now)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            answer = Refused(reason=f"{type(error).__name__}: the endpoint did not answer")
        if not isinstance(answer, Refused):
            break
    return answer


async def _ask_by_event(
    session: aiohttp.ClientSession, subscription: Subscription, *, topic_id: str, validation_url: str, now: float
) -> Consented | Waiting | Refused:
    event: JsonObject = {
        "id": str(uuid.uuid4()),
        "topic": topic_id,
        "subject": "",
        "data": {"validationCode": subscription.validation_code, "validationUrl": validation_url},
        "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
        "eventTime": utc_text(now),
        "metadataVersion": "1",
        "dataVersion": "2",
    }
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "aeg-event-type": "SubscriptionValidation",
        "aeg-subscription-name": subscription.name.upper(),
        "aeg-delivery-count": "0",
        "aeg-metadata-version": "1",
        "aeg-data-version": "2",
    }
    url = URL(subscription.target, encoded=True)
    async with session.post(url, data=compact([event]), headers=headers, allow_redirects=False) as response:
        body = await response.content.read(64 * 1024)
        if response.status != HTTPStatus.OK:
            return Refused(reason=f"it answered the validation event with {response.status} instead of 200")
    try:
        code = as_object(parse_json(body)).get("validationResponse")
    except ValueError:
        return Waiting()
    return Consented() if code == subscription.validation_code else Waiting()


async def _ask_by_options(
    session: aiohttp.ClientSession, subscription: Subscription, *, topic_id: str, validation_url: str, now: float
) -> Consented | Waiting | Refused:
    del topic_id, now  # the CloudEvents protocol sends neither
    headers = {
        "WebHook-Request-Origin": ORIGIN,
        "WebHook-Request-Callback": validation_url,
        "WebHook-Request-Rate": "1000",
    }
    url = URL(subscription.target, encoded=True)
    async with session.options(url, headers=headers, allow_redirects=False) as response:
        await response.read()
        # The header is the consent; a status alone is not.
        if response.headers.get("WebHook-Allowed-Origin", "").strip().lower() in {"*", ORIGIN}:
            return Consented()
        if response.status >= HTTPStatus.BAD_REQUEST:
            return Refused(reason=f"it answered OPTIONS with {response.status} and without WebHook-Allowed-Origin")
        return Waiting()

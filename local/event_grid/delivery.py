"""Hands accepted events to their subscriptions, again and again until each is delivered or given up."""

import asyncio
import logging
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from local.event_grid.config import Settings
from local.event_grid.events import EventSchema, NewEvent, rendered
from local.event_grid.faults import FaultKind, Faults
from local.event_grid.schedule import DeadLetterReason, Failure, GiveUp, after_failure, has_expired
from local.event_grid.store import Delivery, DeliveryState, Store
from local.event_grid.subscriptions import Subscription, Subscriptions
from local.event_grid.wire import JsonObject, compact, utc_text

__all__ = ["Clock", "Dispatcher", "Sender"]

PARALLEL_DELIVERIES: Final = 16
DEAD_LETTER_DELAY_S: Final = 300
DEAD_LETTER_GIVE_UP_S: Final = 4 * 3600
DEAD_LETTER_RETRY_S: Final = 60
HOUSEKEEPING_S: Final = 600
_LOG = logging.getLogger(__name__)


class Sender(Protocol):
    """Makes delivery attempts and writes dead letters."""

    async def send(self, subscription: Subscription, deliveries: Sequence[Delivery]) -> Failure | None:
        """Make one attempt; return None if it was taken."""
        ...

    async def write_dead_letter(self, container: str, path: str, body: bytes) -> bool:
        """Write a dead letter's blob; return whether that worked."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Where time and chance come from."""

    now: Callable[[], float]
    jitter: Callable[[], float]


class Dispatcher:
    """Accepts events durably, and runs one worker for each subscription that delivers them."""

    def __init__(
        self,
        *,
        store: Store,
        subscriptions: Subscriptions,
        sender: Sender,
        faults: Faults,
        clock: Clock,
        settings: Settings,
    ) -> None:
        self._store, self._subscriptions, self._sender = store, subscriptions, sender
        self._faults, self._clock, self._settings = faults, clock, settings
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._wakes: dict[str, asyncio.Event] = {}
        self._housekeeping: asyncio.Task[None] | None = None

    def accept(self, events: Sequence[NewEvent], *, counter: tuple[str, int] | None = None) -> None:
        """Keep the events that somebody wants; once this returns, a crash loses none of them."""
        now = self._clock.now()
        wanted = [(event, [item.key for item in self._subscriptions.wanting(event, now=now)]) for event in events]
        kept = [(event, keys) for event, keys in wanted if keys]
        if kept:
            self._store.accept(kept, now=now, counter=counter)
        self.wake({key for _, keys in kept for key in keys})

    def wake(self, keys: set[str] | None = None) -> None:
        """Let the workers look for something to do; all of them by default."""
        for key in keys if keys is not None else set(self._wakes):
            if key in self._wakes:
                self._wakes[key].set()

    def start(self) -> None:
        """Start a worker for every subscription."""
        self._store.drop_pending_except([subscription.key for subscription in self._subscriptions])
        for subscription in self._subscriptions:
            self.watch(subscription.key)
        self._housekeeping = asyncio.create_task(self._forget_old_events())

    def watch(self, key: str) -> None:
        """Start the subscription's worker, unless it runs."""
        if key not in self._workers:
            self._wakes[key] = asyncio.Event()
            self._workers[key] = asyncio.create_task(self._work(key, self._wakes[key]), name=f"deliver to {key}")
        self._wakes[key].set()

    async def unwatch(self, key: str) -> None:
        """Stop the worker of a deleted subscription and drop what it still had."""
        worker = self._workers.pop(key, None)
        self._wakes.pop(key, None)
        if worker is not None:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)
        self._store.drop_pending_of(key)

    async def stop(self) -> None:
        """Stop all workers; what they were at is delivered after the next start."""
        tasks = [*self._workers.values(), *([self._housekeeping] if self._housekeeping else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _forget_old_events(self) -> None:
        while True:
            self._store.forget_settled()
            await asyncio.sleep(HOUSEKEEPING_S)

    async def _work(self, key: str, wake: asyncio.Event) -> None:
        """Deliver what is due, wait for the next, for ever; a slow attempt holds up one of the parallel slots only."""
        busy: dict[int, asyncio.Task[None]] = {}
        try:
            while True:
                wake.clear()
                subscription = self._subscriptions.get(key)
                now = self._clock.now()
                if subscription is not None and len(busy) < PARALLEL_DELIVERIES:
                    limit = PARALLEL_DELIVERIES * subscription.max_events_per_batch + len(busy)
                    ready = [item for item in self._store.due(key, now=now, limit=limit) if item.id not in busy]
                    for batch in _batches(ready, subscription)[: PARALLEL_DELIVERIES - len(busy)]:
                        self._begin(subscription, batch, busy, wake)
                next_due = self._store.next_due(key, after=now)
                wait_s = None if next_due is None else max(0.0, next_due - self._clock.now())
                try:
                    await asyncio.wait_for(wake.wait(), wait_s)
                except TimeoutError:
                    continue
        finally:
            for task in set(busy.values()):
                task.cancel()
            await asyncio.gather(*busy.values(), return_exceptions=True)

    def _begin(
        self,
        subscription: Subscription,
        batch: Sequence[Delivery],
        busy: dict[int, asyncio.Task[None]],
        wake: asyncio.Event,
    ) -> None:
        task = asyncio.create_task(self._attempt(subscription, batch))
        busy.update(dict.fromkeys([item.id for item in batch], task))

        def done(task: asyncio.Task[None]) -> None:
            for item in batch:
                busy.pop(item.id, None)
            if not task.cancelled() and (error := task.exception()) is not None:
                # Left pending: the next look at the store tries again, after a pause that spares the log.
                _LOG.error("attempt broke off", exc_info=error, extra={"subscription": subscription.name})
                self._store.settle([item.id for item in batch], batch[0].state, due=self._clock.now() + 1)
            wake.set()

        task.add_done_callback(done)

    async def _attempt(self, subscription: Subscription, batch: Sequence[Delivery]) -> None:
        if batch[0].state is DeliveryState.DEAD_LETTERING:
            await self._dead_letter(subscription, batch[0])
            return
        now, scale = self._clock.now(), self._settings.time_scale
        batch, copies = self._after_faults(subscription, batch, now)
        expired = [
            item
            for item in batch
            if has_expired(published_at=item.published_at, now=now, policy=subscription.retry, time_scale=scale)
        ]
        self._give_up(subscription, expired, DeadLetterReason.EXPIRED)
        live = [item for item in batch if item not in expired]
        if not live:
            return
        failure = await self._sender.send(subscription, live)
        for item in live:
            self._settle(subscription, item, failure)
        for item in live:
            if failure is None and copies.get(item.id):
                self._store.repeat([item.id], copies=copies[item.id], now=self._clock.now())

    def _after_faults(
        self, subscription: Subscription, batch: Sequence[Delivery], now: float
    ) -> tuple[list[Delivery], dict[int, int]]:
        """Return the deliveries that no fault stops, and how many copies to add of which."""
        going, copies = [], {}
        for item in batch:
            fault = self._faults.take_for_delivery(item.event, subscription.name)
            match fault and fault.kind:
                case FaultKind.DROP_DELIVERY:
                    self._settle(subscription, item, Failure(status=None, outcome="TimedOut"))
                case FaultKind.DELAY_DELIVERY if fault is not None:
                    self._store.settle([item.id], DeliveryState.PENDING, due=now + fault.delay_s)
                case FaultKind.LOSE_EVENT:
                    self._store.settle([item.id], DeliveryState.LOST, reason="fault")
                case FaultKind.DUPLICATE_DELIVERY if fault is not None:
                    copies[item.id] = fault.copies
                    going.append(item)
                case _:
                    going.append(item)
        return going, copies

    def _settle(self, subscription: Subscription, item: Delivery, failure: Failure | None) -> None:
        now = self._clock.now()
        if failure is None:
            self._store.settle([item.id], DeliveryState.DELIVERED, attempted_at=now, outcome="Delivered")
            self._log(subscription, item, "delivered")
            return
        verdict = after_failure(
            failure,
            kind=subscription.kind,
            policy=subscription.retry,
            attempts=item.attempts + 1,
            jitter=self._clock.jitter(),
        )
        if isinstance(verdict, GiveUp):
            self._store.settle(
                [item.id], DeliveryState.PENDING, attempted_at=now, outcome=failure.outcome, status=failure.status
            )
            self._give_up(subscription, [item], verdict.reason)
            return
        due = now + verdict.wait_s * self._settings.time_scale
        self._store.settle(
            [item.id], DeliveryState.PENDING, due=due, attempted_at=now, outcome=failure.outcome, status=failure.status
        )
        self._log(subscription, item, "retry", delivery_outcome=failure.outcome, wait_s=round(due - now, 3))

    def _give_up(self, subscription: Subscription, items: Sequence[Delivery], reason: DeadLetterReason) -> None:
        for item in items:
            if subscription.dead_letter_container is None:
                self._store.settle([item.id], DeliveryState.DROPPED, reason=reason.value)
            else:
                due = self._clock.now() + DEAD_LETTER_DELAY_S * self._settings.time_scale
                self._store.settle([item.id], DeliveryState.DEAD_LETTERING, due=due, reason=reason.value)
            self._log(subscription, item, "given up", reason=reason.value)

    async def _dead_letter(self, subscription: Subscription, item: Delivery) -> None:
        now, scale = self._clock.now(), self._settings.time_scale
        at = datetime.fromtimestamp(now, UTC)
        path = f"{subscription.name.upper()}/{at.year}/{at.month}/{at.day}/{at.hour}/{uuid.uuid4()}.json"
        body = compact([_dead_letter_document(subscription, item)])
        container = subscription.dead_letter_container
        if container is not None and await self._sender.write_dead_letter(container, path, body):
            self._store.settle([item.id], DeliveryState.DEAD_LETTERED)
            self._log(subscription, item, "dead-lettered", path=path)
        elif container is None or now - (item.last_attempt_at or item.published_at) > DEAD_LETTER_GIVE_UP_S * scale:
            self._store.settle([item.id], DeliveryState.DROPPED)
            self._log(subscription, item, "dropped")
        else:
            self._store.settle([item.id], DeliveryState.DEAD_LETTERING, due=now + max(1.0, DEAD_LETTER_RETRY_S * scale))

    def _log(self, subscription: Subscription, item: Delivery, outcome: str, **fields: object) -> None:
        facts = {"subscription": subscription.name, "event_id": item.event.id, "event_type": item.event.type}
        _LOG.info("delivery", extra={**facts, "attempt": item.attempts + 1, "outcome": outcome, **fields})


def _batches(ready: Sequence[Delivery], subscription: Subscription) -> list[list[Delivery]]:
    """Group deliveries as the subscription asks; dead letters go one by one."""
    batches: list[list[Delivery]] = []
    size = 0
    for item in ready:
        length = len(compact(item.event.body))
        last = batches[-1] if batches else []
        fits = (
            last
            and item.state is DeliveryState.PENDING
            and last[0].state is DeliveryState.PENDING
            and len(last) < subscription.max_events_per_batch
            and size + length <= subscription.preferred_batch_bytes
        )
        if fits:
            last.append(item)
            size += length
        else:
            batches.append([item])
            size = length
    return batches


def _dead_letter_document(subscription: Subscription, item: Delivery) -> JsonObject:
    facts: JsonObject = {
        "deadLetterReason": item.reason,
        "deliveryAttempts": item.attempts,
        "lastDeliveryOutcome": item.last_outcome,
        "publishTime": utc_text(item.published_at),
        "lastDeliveryAttemptTime": None if item.last_attempt_at is None else utc_text(item.last_attempt_at),
    }
    if item.last_status is not None:
        facts["lastHttpStatusCode"] = item.last_status
    if subscription.schema is EventSchema.CLOUD_EVENTS:
        facts = {name.lower(): value for name, value in facts.items()}
    return {**rendered(item.event, subscription.schema), **facts}

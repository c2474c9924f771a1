"""Stands in front of the storage emulator's blob endpoint, and publishes an event for every committed content."""

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import aiohttp
from aiohttp import hdrs, web
from multidict import CIMultiDict
from yarl import URL

from local.event_grid.batch import deletions_in, statuses_in
from local.event_grid.config import STORAGE_SOURCE, Settings
from local.event_grid.delivery import Dispatcher
from local.event_grid.storage_client import StorageClient
from local.event_grid.storage_events import (
    DEFAULT_CONTENT_TYPE,
    BlobAddress,
    BlobFacts,
    Change,
    ChangeType,
    change_asked_for,
    storage_event,
)
from local.event_grid.subscriptions import Subscriptions

__all__ = ["READ_BUFFER_BYTES", "StorageProxy"]

SEQUENCER: Final = "sequencer"
READ_BUFFER_BYTES: Final = 512 * 1024
MAX_BATCH_BYTES: Final = 8 * 1024 * 1024
_HOP_BY_HOP: Final = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer"}
    | {"transfer-encoding", "upgrade", "expect"}
)
_NO_OWN_HEADERS: Final = (hdrs.USER_AGENT, hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE)
_BUSY: Final = b'<?xml version="1.0" encoding="utf-8"?><Error><Code>ServerBusy</Code><Message>%s</Message></Error>'
_LOG = logging.getLogger(__name__)


class _Relayed(web.StreamResponse):
    """A response that carries the upstream's headers and none of aiohttp's own."""

    async def _prepare_headers(self) -> None:
        has_type = hdrs.CONTENT_TYPE in self.headers
        await super()._prepare_headers()
        if not has_type:
            self.headers.popall(hdrs.CONTENT_TYPE, None)


class _Turns:
    """Lets the commits of one blob pass one after the other, so that sequencers follow the order of commits."""

    def __init__(self) -> None:
        self._locks: dict[BlobAddress, tuple[asyncio.Lock, int]] = {}

    async def take(self, address: BlobAddress) -> None:
        lock, users = self._locks.get(address, (asyncio.Lock(), 0))
        self._locks[address] = (lock, users + 1)
        try:
            await lock.acquire()
        except asyncio.CancelledError:
            self._leave(address)
            raise

    def give_back(self, address: BlobAddress) -> None:
        self._locks[address][0].release()
        self._leave(address)

    def _leave(self, address: BlobAddress) -> None:
        lock, users = self._locks[address]
        if users == 1:
            del self._locks[address]
        else:
            self._locks[address] = (lock, users - 1)


@dataclass(slots=True, kw_only=True)
class _Commit:
    """A change on its way, and whether it holds its blob's turn."""

    change: Change
    turns: _Turns
    holds_turn: bool = False
    deleted: BlobFacts | None = None  # what a deletion will take away

    async def take_turn(self) -> None:
        if not self.holds_turn:
            await self.turns.take(self.change.address)
            self.holds_turn = True

    def finish(self) -> None:
        if self.holds_turn:
            self.holds_turn = False
            self.turns.give_back(self.change.address)


class StorageProxy:
    """Passes blob requests through unchanged; an upload is answered only when its event is kept."""

    def __init__(
        self,
        *,
        settings: Settings,
        session: aiohttp.ClientSession,
        storage: StorageClient,
        dispatcher: Dispatcher,
        subscriptions: Subscriptions,
        last_sequence: int,
        now: Callable[[], float],
    ) -> None:
        self._settings, self._session, self._storage = settings, session, storage
        self._dispatcher, self._subscriptions, self._now = dispatcher, subscriptions, now
        self._sequence = itertools.count(last_sequence + 1)
        self._turns = _Turns()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        try:
            if request.method == "POST" and request.query.get("comp") == "batch":
                return await self._batch(request)
            return await self._pass_on(request)
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
            if request.writer.output_size:
                raise  # half an answer is out: the broken connection tells the client
            _LOG.warning("storage emulator did not answer", extra={"error": repr(error)})
            # Clients repeat a busy answer, so an upload whose event could not be written comes again.
            return web.Response(
                status=HTTPStatus.SERVICE_UNAVAILABLE,
                body=_BUSY % b"The server is busy.",
                content_type="application/xml",
                headers={"x-ms-error-code": "ServerBusy"},
            )

    async def _pass_on(self, request: web.BaseRequest) -> web.StreamResponse:
        commit = self._commit_of(request)
        try:
            if commit is not None and not request.can_read_body:
                await commit.take_turn()
            if commit is not None and commit.change.type is ChangeType.DELETED:
                commit.deleted = await self._facts_of(commit.change.address)
            async with self._forward(request, commit) as upstream:
                if commit is not None and upstream.status in commit.change.success:
                    await self._publish(commit, upstream.headers, request.headers)
                if commit is not None:
                    commit.finish()
                return await _relay(upstream, request)
        finally:
            if commit is not None:
                commit.finish()

    def _commit_of(self, request: web.BaseRequest) -> _Commit | None:
        change = change_asked_for(request.method, request.raw_path, request.headers, account=self._settings.account)
        if change is None or not self._is_wanted(change):
            return None
        return _Commit(change=change, turns=self._turns)

    def _is_wanted(self, change: Change) -> bool:
        return self._subscriptions.is_wanted(STORAGE_SOURCE, change.type.value, change.address.subject, now=self._now())

    def _forward(
        self, request: web.BaseRequest, commit: _Commit | None, body: bytes | None = None
    ) -> "aiohttp.client._RequestContextManager":
        return self._session.request(
            request.method,
            URL(self._settings.azurite_blob + request.raw_path, encoded=True),
            data=_upload(request, commit) if body is None and request.can_read_body else body,
            headers=_end_to_end(request.headers),
            skip_auto_headers=_NO_OWN_HEADERS,
            allow_redirects=False,
        )

    async def _publish(self, commit: _Commit, answered: Mapping[str, str], asked: Mapping[str, str]) -> None:
        """Keep the event of a change that just succeeded."""
        change = commit.change
        facts = commit.deleted or change.facts or await self._facts_of(change.address)
        if facts is None:
            _LOG.error("committed blob is gone", extra={"subject": change.address.subject})
            return
        sequence = next(self._sequence)
        event = storage_event(
            change,
            facts,
            account=self._settings.account,
            topic_id=self._settings.storage_resource_id,
            etag=answered.get(hdrs.ETAG) or facts.etag,
            request_id=answered.get("x-ms-request-id", ""),
            client_request_id=asked.get("x-ms-client-request-id"),
            sequence=sequence,
            now=self._now(),
        )
        self._dispatcher.accept([event], counter=(SEQUENCER, sequence))
        _LOG.info("storage event", extra={"event_id": event.id, "api": change.api, "subject": event.subject})

    async def _facts_of(self, address: BlobAddress) -> BlobFacts | None:
        """Ask the storage emulator about a blob; None if there is no such blob."""
        path = address.path_style(self._settings.account)
        status, headers = await self._storage.blob_properties(path, self._settings.azurite_blob, headers={})
        if status == HTTPStatus.NOT_FOUND:
            return None
        if status != HTTPStatus.OK:
            raise aiohttp.ClientError(f"HEAD of a committed blob answered {status}")
        return BlobFacts(
            content_length=int(headers.get(hdrs.CONTENT_LENGTH, "0")),
            content_type=headers.get(hdrs.CONTENT_TYPE, DEFAULT_CONTENT_TYPE),
            blob_type=headers.get("x-ms-blob-type", "BlockBlob"),
            etag=headers.get(hdrs.ETAG, ""),
        )

    async def _batch(self, request: web.BaseRequest) -> web.StreamResponse:
        """Pass a batch on, and publish the deletions in it that succeeded."""
        if (request.content_length or 0) > MAX_BATCH_BYTES:
            return web.Response(status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        body = await request.content.read()
        changes = {
            content_id: change
            for content_id, change in deletions_in(
                body,
                request.headers.get(hdrs.CONTENT_TYPE, ""),
                request.headers.get(hdrs.HOST, ""),
                self._settings.account,
            )
            if self._is_wanted(change)
        }
        facts = {content_id: await self._facts_of(change.address) for content_id, change in changes.items()}
        async with self._forward(request, None, body) as upstream:
            answer = await upstream.read()
            for content_id, status in statuses_in(answer, upstream.headers.get(hdrs.CONTENT_TYPE, "")):
                change, known = changes.get(content_id), facts.get(content_id)
                if change is not None and known is not None and status in change.success:
                    commit = _Commit(change=change, turns=self._turns, deleted=known)
                    await self._publish(commit, upstream.headers, request.headers)
            response = _Relayed(status=upstream.status, reason=upstream.reason, headers=_end_to_end(upstream.headers))
            await response.prepare(request)
            await response.write(answer)
            await response.write_eof()
            return response


def _end_to_end(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """Return the headers that a proxy passes on, in their order and with repetitions."""
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in _HOP_BY_HOP)


async def _upload(request: web.BaseRequest, commit: _Commit | None) -> AsyncIterator[bytes]:
    """Yield the request's body; a commit takes its blob's turn before the last bytes go out, not earlier."""
    left = request.content_length
    async for chunk in request.content.iter_any():
        if left is not None:
            left -= len(chunk)
        if commit is not None and (left is None or left <= 0):
            await commit.take_turn()
        yield chunk


async def _relay(upstream: aiohttp.ClientResponse, request: web.BaseRequest) -> web.StreamResponse:
    response = _Relayed(status=upstream.status, reason=upstream.reason, headers=_end_to_end(upstream.headers))
    await response.prepare(request)
    async for chunk in upstream.content.iter_any():
        await response.write(chunk)
    await response.write_eof()
    return response

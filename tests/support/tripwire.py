"""Stands between the processes of a cloud, and acts at a definite request: before its effect, or before its answer.

A point of a story is a request that the story makes. A wire that is armed there holds the request, acts (kills a
process, as a rule), and cuts the connection: struck before the request, the write has not happened; struck after it,
the write has happened and nobody was told. Everything else passes through unchanged.
"""

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Self

import aiohttp
from aiohttp import hdrs, web
from multidict import CIMultiDict
from yarl import URL

__all__ = ["Door", "Point", "Seen", "Tripwire", "When", "Wire"]

_LARGEST: Final = 64 * 1024 * 1024
_HOP_BY_HOP: Final = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "expect"}
)
_NO_OWN_HEADERS: Final = (hdrs.USER_AGENT, hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE)
_QUIET_WITHIN_S: Final = 30.0


class Door(StrEnum):
    """What stands behind an address of the tripwire."""

    TABLES = "tables"
    QUEUES = "queues"
    RAW_BLOBS = "raw blobs"  # Azurite's own blob endpoint, which the storage proxy uses
    BLOBS = "blobs"  # the storage proxy, which raises events
    TOPICS = "topics"
    WORKSPACE = "workspace"


class When(StrEnum):
    """On which side of a request's effect a wire strikes."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True, slots=True)
class Seen:
    """A request on its way."""

    door: Door
    method: str
    path: str  # with its query, as it was sent
    body: bytes

    @property
    def text(self) -> str:
        """Everything that a point may be recognised by."""
        return f"{self.method} {self.path}\n{self.body.decode(errors='replace')}"


@dataclass(frozen=True, slots=True)
class Point:
    """A request that a story makes, recognised by what it means."""

    name: str
    is_it: Callable[[Seen], bool]


@dataclass(slots=True, kw_only=True)
class Wire:
    """What happens at a point; used up after so many strikes."""

    point: Point
    when: When
    act: Callable[[], None]
    times: int = 1
    is_struck: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None


class Tripwire:
    """The addresses that every process is given, and what is behind them at the moment."""

    def __init__(self) -> None:
        self._upstreams: dict[Door, str] = {}
        self._ports: dict[Door, int] = {}
        self._wires: list[Wire] = []
        self._under_way: Counter[Door] = Counter()
        self._shut: set[Door] = set()
        self._observers: list[Callable[[Seen], None]] = []
        self._lock = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._workers = ThreadPoolExecutor(8, thread_name_prefix="tripwire")
        self._session: aiohttp.ClientSession | None = None
        self._runners: list[web.ServerRunner] = []
        self._thread = threading.Thread(target=self._loop.run_forever, name="tripwire", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(30)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._workers.shutdown(cancel_futures=True)

    def url(self, door: Door) -> str:
        """Return the address to give to those who want what is behind a door; it never changes."""
        return f"http://127.0.0.1:{self._ports[door]}"

    def point_to(self, door: Door, url: str) -> None:
        """Say what is behind a door from now on."""
        self._upstreams[door] = url.rstrip("/")

    def observe(self, look: Callable[[Seen], None]) -> None:
        """Have every request looked at before it goes on."""
        self._observers.append(look)

    @contextmanager
    def armed(self, wire: Wire) -> Iterator[Wire]:
        """Keep a wire in force."""
        with self._lock:
            self._wires.append(wire)
        try:
            yield wire
        finally:
            with self._lock, contextlib.suppress(ValueError):
                self._wires.remove(wire)

    @contextmanager
    def shut(self, *doors: Door) -> Iterator[None]:
        """Let nothing in by these doors, and wait until nothing is inside."""
        with self._lock:
            self._shut |= set(doors)
            is_quiet = self._lock.wait_for(lambda: not any(self._under_way[door] for door in doors), _QUIET_WITHIN_S)
        try:
            assert is_quiet, f"requests never ended: {self._under_way}"
            yield
        finally:
            with self._lock:
                self._shut -= set(doors)

    async def _open(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True, limit=0),  # what was restarted has no old connections
            timeout=aiohttp.ClientTimeout(total=120),
            auto_decompress=False,
        )
        for door in Door:
            runner = web.ServerRunner(web.Server(self._handler(door), access_log=None))
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self._runners.append(runner)
            self._ports[door] = int(runner.addresses[0][1])

    async def _close(self) -> None:
        for runner in self._runners:
            await runner.cleanup()
        if self._session is not None:
            await self._session.close()

    def _handler(self, door: Door) -> Callable[[web.BaseRequest], "asyncio.Future[web.StreamResponse]"]:
        def handle(request: web.BaseRequest) -> "asyncio.Future[web.StreamResponse]":
            return asyncio.ensure_future(self._handle(door, request))

        return handle

    async def _handle(self, door: Door, request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        body = await request.content.read()
        seen = Seen(door, request.method, request.raw_path, body)
        for look in self._observers:
            await self._loop.run_in_executor(self._workers, look, seen)
        wire = self._take(seen)
        if wire is not None and wire.when is When.BEFORE:
            await self._strike(wire)
            return _cut(request)
        answer = await self._pass_on(door, request, body)
        if wire is not None:
            await self._strike(wire)
            return _cut(request)
        return answer if answer is not None else _cut(request)

    def _take(self, seen: Seen) -> Wire | None:
        with self._lock:
            for wire in self._wires:
                if wire.times > 0 and wire.point.is_it(seen):
                    wire.times -= 1
                    return wire
        return None

    async def _strike(self, wire: Wire) -> None:
        try:
            await self._loop.run_in_executor(self._workers, wire.act)
        except BaseException as error:  # noqa: BLE001 - the waiting test raises it
            wire.error = error
        if wire.times == 0 or wire.error is not None:
            wire.is_struck.set()

    async def _pass_on(self, door: Door, request: web.BaseRequest, body: bytes) -> web.Response | None:
        """Return what is behind the door answers, or None if it is gone."""
        while not self._enter(door):  # noqa: ASYNC110 - opened from another thread, a moment later
            await asyncio.sleep(0.02)
        try:
            assert self._session is not None
            async with self._session.request(
                request.method,
                URL(self._upstreams[door] + request.raw_path, encoded=True),
                data=body or None,
                headers=_end_to_end(request.headers),
                skip_auto_headers=_NO_OWN_HEADERS,
                allow_redirects=False,
            ) as upstream:
                content = await upstream.read()
                headers = _end_to_end(upstream.headers)
                if request.method != "HEAD":
                    headers.popall(hdrs.CONTENT_LENGTH, None)
                return web.Response(status=upstream.status, reason=upstream.reason, headers=headers, body=content)
        except (aiohttp.ClientError, ConnectionError, TimeoutError):
            return None
        finally:
            with self._lock:
                self._under_way[door] -= 1
                self._lock.notify_all()

    def _enter(self, door: Door) -> bool:
        with self._lock:
            if door in self._shut:
                return False
            self._under_way[door] += 1
            return True


def _cut(request: web.BaseRequest) -> web.Response:
    """Break the connection: a client sees what a dead server, or a lost answer, looks like."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


def _end_to_end(headers: "CIMultiDict[str] | aiohttp.typedefs.LooseHeaders") -> CIMultiDict[str]:
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in _HOP_BY_HOP)  # type: ignore[union-attr] # a mapping of headers, whichever side it came from

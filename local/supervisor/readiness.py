"""Asks services over HTTP whether they are ready."""

import asyncio
import contextlib
from urllib.parse import urlsplit

from local.supervisor.services import Probe

__all__ = ["is_ready"]

_TIMEOUT_S = 5.0
_OK = range(200, 400)


async def is_ready(probes: tuple[Probe, ...]) -> bool:
    """Tell whether every URL answers as it should."""
    for probe in probes:
        status = await _status_of(probe.url)
        if status is None or not (probe.any_status or status in _OK):
            return False
    return True


async def _status_of(url: str) -> int | None:
    """Return the status of a GET, or None if there is no whole answer line."""
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            try:
                request = f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
                writer.write(request.encode())
                line = await reader.readline()
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError):
        return None
    words = line.split()
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else None

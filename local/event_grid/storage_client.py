"""Signs the few storage requests that Event Grid itself makes: queue messages, dead letters, properties of blobs."""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import quote
from xml.sax.saxutils import escape

import aiohttp
from yarl import URL

__all__ = ["StorageClient", "shared_key"]

_VERSION = "2021-12-02"
_OWN_HEADERS = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")


def shared_key(method: str, url: URL, headers: Mapping[str, str], *, account: str, key: str) -> str:
    """Return the Authorization header of a request.

    Args:
        method: In upper case.
        url: With its query; its path is signed as it is sent.
        headers: All that will be sent; a missing Content-Length means no body.
        account: The account's name.
        key: The account's key, base64.

    Source: Microsoft Learn, "Authorize with Shared Key", Blob, Queue and File services, version 2015-02-21 and later.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    length = lower.get("content-length", "")
    standard = (
        lower.get(name, "")
        for name in (
            "content-md5", "content-type", "date", "if-modified-since", "if-match", "if-none-match",
            "if-unmodified-since", "range",
        )
    )  # fmt: skip
    canonical_headers = [f"{name}:{lower[name].strip()}" for name in sorted(lower) if name.startswith("x-ms-")]
    query = [f"{name.lower()}:{value}" for name, value in sorted(url.query.items())]
    lines = [
        method,
        lower.get("content-encoding", ""),
        lower.get("content-language", ""),
        "" if length == "0" else length,
        *standard,
        *canonical_headers,
        "\n".join([f"/{account}{url.raw_path}", *query]),
    ]
    digest = hmac.new(base64.b64decode(key), "\n".join(lines).encode(), hashlib.sha256).digest()
    return f"SharedKey {account}:{base64.b64encode(digest).decode()}"


class StorageClient:
    """Talks to the storage emulator with the account's key."""

    def __init__(self, session: aiohttp.ClientSession, *, account: str, key: str) -> None:
        self._session, self._account, self._key = session, account, key

    async def put_message(self, queue_url: str, body: bytes, *, ttl_s: int | None, timeout_s: float) -> int:
        """Put one message, base64 as the Functions host expects it; return the status."""
        text = escape(base64.b64encode(body).decode())
        document = (
            f'<?xml version="1.0" encoding="utf-8"?><QueueMessage><MessageText>{text}</MessageText></QueueMessage>'
        )
        query = f"?messagettl={ttl_s}" if ttl_s else ""
        return await self._send("POST", f"{queue_url}/messages{query}", document.encode(), {}, timeout_s=timeout_s)

    async def create_queue(self, queue_url: str) -> int:
        """Create the queue, unless it exists; return the status."""
        return await self._send("PUT", queue_url, b"", {})

    async def create_container(self, container_url: str) -> int:
        """Create the container, unless it exists; return the status."""
        return await self._send("PUT", f"{container_url}?restype=container", b"", {})

    async def put_blob(self, blob_url: str, body: bytes) -> int:
        """Write a JSON blob; return the status."""
        headers = {"x-ms-blob-type": "BlockBlob", "Content-Type": "application/json"}
        return await self._send("PUT", blob_url, body, headers)

    async def blob_properties(
        self, path_qs: str, base: str, *, headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str]]:
        """Return status and headers of a HEAD on a blob, addressed as `path_qs` was by another client."""
        url = URL(base + path_qs, encoded=True)
        signed = self._signed("HEAD", url, b"", headers)
        async with self._session.head(url, headers=signed, skip_auto_headers=_OWN_HEADERS) as response:
            return response.status, response.headers

    def _signed(self, method: str, url: URL, body: bytes, headers: Mapping[str, str]) -> dict[str, str]:
        complete = {**headers, "x-ms-date": format_datetime(datetime.now(UTC), usegmt=True), "x-ms-version": _VERSION}
        if method != "HEAD":
            complete["Content-Length"] = str(len(body))
        complete["Authorization"] = shared_key(method, url, complete, account=self._account, key=self._key)
        return complete

    async def _send(
        self, method: str, address: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float = 30.0
    ) -> int:
        url = URL(address, encoded=True)
        async with self._session.request(
            method,
            url,
            data=body,
            headers=self._signed(method, url, body, headers),
            skip_auto_headers=_OWN_HEADERS,
            timeout=aiohttp.ClientTimeout(total=timeout_s),
        ) as response:
            await response.read()
            return response.status


def quoted(name: str) -> str:
    """Return a blob's name as part of a URL."""
    return quote(name, safe="/~")

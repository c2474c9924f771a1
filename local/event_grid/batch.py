"""Reads blob batches: many deletions in one request, and what became of each."""

import re
from collections.abc import Iterator, Mapping
from email.parser import BytesParser
from email.policy import HTTP

from multidict import CIMultiDict

from local.event_grid.storage_events import Change, change_asked_for

__all__ = ["deletions_in", "statuses_in"]


def deletions_in(body: bytes, content_type: str, host: str, account: str) -> Iterator[tuple[str, Change]]:
    """Yield the content id and the change of every deletion in a batch request."""
    for content_id, first_line, headers in _parts(body, content_type):
        method, _, rest = first_line.partition(" ")
        target = rest.rpartition(" HTTP/")[0] or rest
        change = change_asked_for(method.upper(), target, CIMultiDict({"Host": host, **headers}), account=account)
        if method.upper() == "DELETE" and change is not None:
            yield content_id, change


def statuses_in(body: bytes, content_type: str) -> Iterator[tuple[str, int]]:
    """Yield the content id and the status of every answer in a batch response."""
    for content_id, first_line, _ in _parts(body, content_type):
        if found := re.match(r"HTTP/\S+ (\d{3})", first_line):
            yield content_id, int(found[1])


def _parts(body: bytes, content_type: str) -> Iterator[tuple[str, str, Mapping[str, str]]]:
    """Yield each part's content id, and the first line and headers of the HTTP message in it."""
    message = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    for place, part in enumerate(message.iter_parts() if message.is_multipart() else ()):
        payload = part.get_payload(decode=True)
        text = payload.decode("utf-8", "replace").lstrip("\r\n") if isinstance(payload, bytes) else ""
        first_line, *lines = text.splitlines() or [""]
        headers = dict(line.split(":", 1) for line in lines if ":" in line)
        yield str(part.get("Content-ID", place)), first_line, {name: value.strip() for name, value in headers.items()}

"""Makes and checks W3C trace context."""

import re
import secrets

__all__ = ["is_trace_parent", "new_trace_parent"]

_TRACE_PARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")


def is_trace_parent(text: str) -> bool:
    """Whether the text is a valid `traceparent` header.

    >>> is_trace_parent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    True
    """
    return _TRACE_PARENT.fullmatch(text) is not None


def new_trace_parent() -> str:
    """Return the `traceparent` of a new, sampled trace."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"

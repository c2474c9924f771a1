"""Keeps connections no longer than the service does, so that no request is sent into one that is being closed.

A service closes what was idle for a while. A request that is sent at that very moment is not answered, and nobody
knows whether it was done; an insert cannot be repeated then, and its message waits for its next delivery.
"""

import re
import time
from typing import Any, Final

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool

__all__ = ["FreshHTTPConnectionPool", "FreshHTTPSConnectionPool"]

_KEPT_FOR: Final = re.compile(r"timeout=(\d+)")
_SOONER_S: Final = 1.0  # than the service closes it
_IDLE_S: Final = 60.0  # unless the service says for how long it keeps them; networks on the way forget after minutes


class _Fresh:
    """Closes a kept connection that was idle for too long; urllib3 opens it again for the next request."""

    idle_s = _IDLE_S

    def urlopen(self, *args: Any, **options: Any) -> Any:
        response = super().urlopen(*args, **options)  # type: ignore[misc] # of the pool that it is mixed into
        if (told := _KEPT_FOR.search(response.headers.get("Keep-Alive", ""))) is not None:
            self.idle_s = max(int(told[1]) - _SOONER_S, 0.0)
        return response

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection = super()._get_conn(timeout)  # type: ignore[misc] # likewise
        if time.monotonic() - getattr(connection, "idle_since", time.monotonic()) > self.idle_s:
            connection.close()
        return connection

    def _put_conn(self, connection: Any) -> None:
        if connection is not None:
            connection.idle_since = time.monotonic()
        super()._put_conn(connection)  # type: ignore[misc] # likewise


class FreshHTTPConnectionPool(_Fresh, HTTPConnectionPool):
    """Connections over HTTP."""


class FreshHTTPSConnectionPool(_Fresh, HTTPSConnectionPool):
    """Connections over TLS."""

"""Reads the system's clock."""

from datetime import UTC, datetime

__all__ = ["SystemClock"]


class SystemClock:
    """Implements `Clock`."""

    def now(self) -> datetime:
        """Return the aware UTC time."""
        return datetime.now(UTC)

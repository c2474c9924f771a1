"""Says what an operator's request did, and what it did not do."""

from dataclasses import dataclass

__all__ = ["Acted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Acted:
    """What was done, and what was left as it is with the reason; both are sentences for people."""

    did: tuple[str, ...] = ()
    did_not: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return both lists."""
        return {"did": list(self.did), "did_not": list(self.did_not)}

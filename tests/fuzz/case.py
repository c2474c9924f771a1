"""Describes one input of the control plane: which door it comes through, and its parts as bytes."""

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

__all__ = ["Case"]


@dataclass(frozen=True, slots=True)
class Case:
    """One input; equal cases are the same input."""

    target: str
    parts: tuple[tuple[str, bytes], ...]

    @classmethod
    def of(cls, target: str, parts: Mapping[str, bytes]) -> "Case":
        """Return the case with these parts."""
        return cls(target, tuple(parts.items()))

    def get(self, name: str) -> bytes | None:
        """Return a part, or None; of parts of the same name, the last."""
        return dict(self.parts).get(name)

    def text(self, name: str) -> str:
        """Return a part as text, as the host decodes what is no UTF-8."""
        return (self.get(name) or b"").decode(errors="replace")

    def below(self, prefix: str) -> dict[str, str]:
        """Return the parts whose names begin so, by the rest of their names, as text."""
        return {
            name.removeprefix(prefix): value.decode(errors="replace")
            for name, value in self.parts
            if name.startswith(prefix)
        }

    def with_part(self, name: str, value: bytes) -> "Case":
        """Return the case with a part changed, or added."""
        if name not in dict(self.parts):
            return replace(self, parts=(*self.parts, (name, value)))
        return replace(self, parts=tuple((key, value if key == name else old) for key, old in self.parts))

    def without(self, name: str) -> "Case":
        """Return the case without a part."""
        return replace(self, parts=tuple(part for part in self.parts if part[0] != name))

    def to_text(self) -> str:
        """Return the case as one word for a command line."""
        parts = [[name, base64.b64encode(value).decode()] for name, value in self.parts]
        return base64.urlsafe_b64encode(zlib.compress(json.dumps([self.target, parts]).encode())).decode()

    @classmethod
    def from_text(cls, text: str) -> "Case":
        """Return the case that a command line names."""
        target, parts = json.loads(zlib.decompress(base64.urlsafe_b64decode(text)))
        return cls(target, tuple((name, base64.b64decode(value)) for name, value in parts))

    def __str__(self) -> str:
        return "\n".join([self.target, *(f"  {name} = {value!r}" for name, value in self.parts)])

"""Reads when a pipeline's folders of files are complete, as `pipelines.toml` says it."""

from typing import Final

from functions.core.errors import Problem
from functions.core.pipelines import Batching, LateFiles, OnTimeout, Readiness, ReadinessKind
from functions.core.reading import Reader

__all__ = ["MOST_FILES", "read_readiness"]

MOST_FILES: Final = 50_000  # of one consignment, as of any batch

_OWN_KEYS: Final = {
    ReadinessKind.NONE: ((), ()),
    ReadinessKind.MARKER: ((), ("name",)),
    ReadinessKind.MANIFEST: (("name",), ()),
    ReadinessKind.COUNT: (("count",), ()),
}
_NAME: Final = r"(?!\.{1,2}$)[^/\\\x00-\x1f\x7f]{1,255}"


def read_readiness(reader: Reader, batching: Batching, *, has_routes: bool) -> Readiness:
    """Return what the table says; its absence means that no file waits for others."""
    if reader.is_absent:
        return Readiness()
    mistakes = len(reader.problems)
    kind = reader.child("kind").one_of(ReadinessKind)
    if len(reader.problems) > mistakes:
        return Readiness()  # without its kind, nobody knows what else it may say
    required, optional = _OWN_KEYS[kind]
    shared = () if kind is ReadinessKind.NONE else ("on_timeout", "late")
    reader.mapping(required=("kind", *required), optional=(*optional, *shared))
    if kind is ReadinessKind.NONE:
        return Readiness()
    if not has_routes:
        reader.problems.append(Problem(reader.place, f"{kind.value!r} without routes", "a pipeline that has routes"))
    readiness = Readiness(
        kind=kind,
        name=_read_name(reader.child("name"), kind),
        count=0 if reader.child("count").is_absent else reader.child("count").integer(minimum=1, maximum=MOST_FILES),
        on_timeout=reader.child("on_timeout").one_of(OnTimeout, default=OnTimeout.HOLD),
        late=reader.child("late").one_of(LateFiles, default=LateFiles.NEW_VERSION),
    )
    _check_times(reader, readiness, batching)
    return readiness


def _read_name(reader: Reader, kind: ReadinessKind) -> str:
    if kind is ReadinessKind.COUNT or (kind is ReadinessKind.MANIFEST and reader.is_absent):
        return ""  # the latter's absence was noted where the keys were
    return reader.text(pattern=_NAME, expected="a name within the folder, at most 255 long", default="_SUCCESS")


def _check_times(reader: Reader, readiness: Readiness, batching: Batching) -> None:
    if readiness.kind is ReadinessKind.MARKER and batching.quiet_seconds == 0:
        expected = "batching.quiet_seconds of at least 1: the marker's event may come before those of the files"
        reader.problems.append(Problem(reader.place, "a marker without a quiet period", expected))
    if readiness.on_timeout is OnTimeout.START and batching.max_wait_seconds == 0:
        expected = "batching.max_wait_seconds of at least 1, after which it starts"
        reader.child("on_timeout").problems.append(Problem(f"{reader.place}.on_timeout", "'start'", expected))

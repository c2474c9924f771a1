"""Reads the body of a request for a backfill strictly, listing every bad field."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from functions.core.backfills import places_of
from functions.core.errors import InvalidRequestError, Problem
from functions.core.model import PipelineKey
from functions.core.pipelines import Pipeline, Pipelines
from functions.core.reading import Reader
from functions.core.requests import parse_body

__all__ = ["PER_MINUTE", "BackfillRequest", "parse_backfill_request"]

PER_MINUTE: Final = 600  # unless something else is said
_MOST_PER_MINUTE: Final = 6000
_MAX_PREFIX: Final = 1024
_CONFIRMATION: Final = r"[0-9a-f]{8}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillRequest:
    """What a person wants to be handed to a pipeline, and whether they have seen how much that is."""

    pipeline: Pipeline
    prefix: str
    since: datetime | None
    until: datetime | None
    again: bool
    per_minute: int | None  # None: not said, so it stays what it is
    is_confirmed: bool  # without having seen the plan
    confirmation: str | None  # of the plan that was seen
    is_stop: bool  # stop it instead
    is_fresh: bool  # begin anew what is done


def parse_backfill_request(body: bytes, *, pipelines: Pipelines, now: datetime) -> BackfillRequest:
    """Return what a body asks for; raises InvalidRequestError listing every mistake."""
    problems: list[Problem] = []
    root = Reader(parse_body(body), "", problems)
    optional = ("prefix", "since", "until", "again", "per_minute", "yes", "confirm", "stop", "fresh")
    root.mapping(required=("pipeline",), optional=optional)
    pipeline = _pipeline(root.child("pipeline"), pipelines)
    prefix = root.child("prefix").text(default="", max_length=_MAX_PREFIX)
    if not prefix.isprintable():
        root.child("prefix").refuse("printable text")
        prefix = ""
    if pipeline is not None and not places_of(pipeline, prefix):
        root.child("prefix").refuse(f"a prefix where {pipeline.key} reads: {', '.join(pipeline.input_places())}")
    since, until = _instant(root.child("since")), _instant(root.child("until"))
    if until is not None and (since or until) >= until and since is not None:
        root.child("until").refuse("a time after since")
    if since is not None and since > now + timedelta(minutes=5):
        root.child("since").refuse("a time that has come")
    confirm = root.child("confirm")
    confirmation = None
    if not confirm.is_absent:
        confirmation = confirm.text(pattern=_CONFIRMATION, expected="what the dry run answered as confirm")
    again, fresh = root.child("again").boolean(default=False), root.child("fresh").boolean(default=False)
    yes, is_stop = root.child("yes").boolean(default=False), root.child("stop").boolean(default=False)
    rate = root.child("per_minute")
    per_minute = None if rate.is_absent else rate.integer(minimum=1, maximum=_MOST_PER_MINUTE)
    if is_stop and (yes or fresh or confirmation is not None):
        root.child("stop").refuse("stop without yes, confirm and fresh")
    if problems or pipeline is None:
        raise InvalidRequestError(problems)
    return BackfillRequest(
        pipeline=pipeline,
        prefix=prefix,
        since=since,
        until=until,
        again=again,
        per_minute=per_minute,
        is_confirmed=yes,
        confirmation=confirmation,
        is_stop=is_stop,
        is_fresh=fresh,
    )


def _pipeline(reader: Reader, pipelines: Pipelines) -> Pipeline | None:
    if reader.is_absent:
        return None
    found = pipelines.by_key.get(PipelineKey(reader.value)) if isinstance(reader.value, str) else None
    if found is None or not found.routes:
        with_routes = sorted(pipeline.key for pipeline in pipelines.pipelines if pipeline.routes)
        reader.refuse(f"a pipeline with routes: {', '.join(with_routes) or 'there is none'}")
        return None
    return found


def _instant(reader: Reader) -> datetime | None:
    return None if reader.is_absent else reader.instant()

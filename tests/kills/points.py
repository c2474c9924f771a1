"""Names the requests of a file's story at which something can be killed; each belongs to one pipeline."""

import base64
import re
from collections.abc import Callable
from typing import Final

from tests.support.tripwire import Door, Point, Seen

__all__ = ["POINTS", "point"]

type IsIt = Callable[[Seen], bool]

_MESSAGE: Final = re.compile(r"<MessageText>([^<]*)</MessageText>")


def _writes(table: str, state: str = "", *, has: str = "") -> Callable[[str], IsIt]:
    """Return what recognises a write of a table's rows, one by one or in a transaction."""

    def of(pipeline: str) -> IsIt:
        def is_it(seen: Seen) -> bool:
            text = seen.text
            return (
                seen.door is Door.TABLES
                and seen.method != "GET"
                and f"tidegate{table}" in text
                and pipeline in text
                and "DELETE" not in text
                and (not state or re.search(rf'"state": ?"{state}"', text) is not None)
                and re.search(has, text) is not None
            )

        return is_it

    return of


def _deletes(table: str) -> Callable[[str], IsIt]:
    def of(pipeline: str) -> IsIt:
        def is_it(seen: Seen) -> bool:
            text = seen.text
            return seen.door is Door.TABLES and f"tidegate{table}" in text and "DELETE" in text and pipeline in text

        return is_it

    return of


def _blob(container: str, ending: str) -> Callable[[str], IsIt]:
    def of(pipeline: str) -> IsIt:
        return lambda seen: (
            seen.door is Door.BLOBS
            and seen.method == "PUT"
            and f"/{container}/" in seen.path
            and pipeline in seen.path
            and ending in seen.path
        )

    return of


def _queued(queue: str, *words: str) -> Callable[[str], IsIt]:
    """Return what recognises a message that is put into a queue, by what it says."""

    def of(pipeline: str) -> IsIt:
        def is_it(seen: Seen) -> bool:
            if seen.door is not Door.QUEUES or seen.method != "POST" or f"/{queue}/messages" not in seen.path:
                return False
            match = _MESSAGE.search(seen.body.decode(errors="replace"))
            said = "" if match is None else base64.b64decode(match[1]).decode(errors="replace")
            return all(word in said for word in (pipeline, *words))

        return is_it

    return of


def _said(door: Door, method: str, path: str, *words: str) -> Callable[[str], IsIt]:
    def of(pipeline: str) -> IsIt:
        def is_it(seen: Seen) -> bool:
            is_there = seen.door is door and seen.method == method and path in seen.path
            return is_there and all(word in seen.text for word in (pipeline, *words))

        return is_it

    return of


def _after(first: Callable[[str], IsIt], door: Door, method: str, path: str) -> Callable[[str], IsIt]:
    """Return what recognises the next such request after another one; it does not name its pipeline itself."""

    def of(pipeline: str) -> IsIt:
        is_first, seen_first = first(pipeline), False

        def is_it(seen: Seen) -> bool:
            nonlocal seen_first
            if is_first(seen):
                seen_first = True
                return False
            return seen_first and seen.door is door and seen.method == method and re.search(path, seen.path) is not None

        return is_it

    return of


_submitted, _reported, _ended = _writes("runs", "submitted"), _writes("runs", "reported"), _writes("runs", "ended")

POINTS: Final[dict[str, Callable[[str], IsIt]]] = {
    "blob_committed": _said(Door.RAW_BLOBS, "PUT", "/input/"),
    "event_delivered": _queued("arrivals", "Microsoft.Storage.BlobCreated"),
    "arrival_recorded": _writes("arrivals", "held"),
    "arrival_indexed": _writes("pending"),
    "model_resolved": _after(_writes("pending"), Door.WORKSPACE, "GET", "/aliases/champion"),
    "arrivals_claimed": _writes("arrivals", "assigned"),
    "batch_frozen": _blob("tidegate", "manifests/"),
    "run_opened": _writes("open"),
    "run_written": _writes("runs", "submitting"),
    "run_started": _said(Door.WORKSPACE, "POST", "/jobs/run-now"),
    "submission_recorded": _submitted,
    "index_cleared": _deletes("pending"),
    "delivery_acknowledged": _after(_deletes("pending"), Door.QUEUES, "DELETE", "/arrivals/messages/"),
    "scores_published": _blob("scores", "_manifest.json"),
    "end_reported": _said(Door.TOPICS, "POST", "/topics/", '"announced_by": "notebook"'),
    "report_delivered": _queued("completions", '"notebook"'),
    "report_recorded": _reported,
    "confirmation_queued": _queued("dispatch", "advance_run"),
    "end_confirmed": _after(_reported, Door.WORKSPACE, "GET", r"/jobs/runs/get\?"),
    "arrivals_settled": _writes("arrivals", "scored"),
    "end_recorded": _ended,
    "end_announced": _said(Door.TOPICS, "POST", "/topics/", "control_plane"),
    "announcement_recorded": _writes("runs", "ended", has='"published_at": ?"'),
    "run_closed": _deletes("open"),
}


def point(name: str, pipeline: str) -> Point:
    """Return a point in the story of one pipeline."""
    return Point(name, POINTS[name](pipeline))

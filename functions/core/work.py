"""Describes the work that the control plane hands to itself through the dispatch queue."""

import json
from dataclasses import dataclass
from enum import StrEnum

from functions.core.errors import InvalidDocumentError, Problem
from functions.core.model import PipelineKey, RunId
from functions.core.reading import Reader
from functions.core.tokens import RUN_ID_PATTERN

__all__ = ["WorkItem", "WorkKind"]


class WorkKind(StrEnum):
    """What the dispatcher shall do; each is safe to repeat, and to do when there is nothing to do."""

    CLOSE_BATCH = "close_batch"  # look at the pipeline's held arrivals and freeze those that are due into a run
    BACKFILL = "backfill"  # take one backfill one page further
    ADVANCE_RUN = "advance_run"  # take one run as far towards its submission as it goes


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkItem:
    """One piece of work; the ledger says what is still to be done, the item only where to look."""

    kind: WorkKind
    pipeline: PipelineKey
    run_id: RunId | None = None  # of ADVANCE_RUN
    tries: int = 0  # how often this work was put back already; the back-off grows with it
    traceparent: str | None = None
    consignment: str = ""  # of CLOSE_BATCH: look at this one only

    backfill_id: str = ""  # of BACKFILL
    pages: int | None = None  # of BACKFILL: how many are done when this is its turn; None: whatever is at hand

    def __post_init__(self) -> None:
        if (self.kind is WorkKind.ADVANCE_RUN) != (self.run_id is not None):
            raise ValueError(f"{self.kind} and run {self.run_id!r} do not go together")
        if (self.kind is WorkKind.BACKFILL) != bool(self.backfill_id):
            raise ValueError(f"{self.kind} and backfill {self.backfill_id!r} do not go together")
        if self.pages is not None and self.kind is not WorkKind.BACKFILL:
            raise ValueError(f"{self.kind} and {self.pages} pages do not go together")

    def to_json(self) -> str:
        """Return the message text."""
        return json.dumps(
            {
                "kind": self.kind.value,
                "pipeline": self.pipeline,
                "run_id": self.run_id,
                "tries": self.tries,
                "traceparent": self.traceparent,
                **({"consignment": self.consignment} if self.consignment else {}),
                **({"backfill_id": self.backfill_id} if self.backfill_id else {}),
                **({"pages": self.pages} if self.pages is not None else {}),
            },
            sort_keys=True,
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> "WorkItem":
        """Return the work in a message; raises InvalidDocumentError listing every mistake."""
        problems: list[Problem] = []
        try:
            value: object = json.loads(text)
        except (ValueError, RecursionError):  # bytes that are no UTF-8 are a ValueError too
            raise InvalidDocumentError([Problem("work item", f"{len(text)} characters", "JSON")]) from None
        root = Reader(value, "work item", problems)
        optional = ("consignment", "backfill_id", "pages")
        root.mapping(required=("kind", "pipeline", "run_id", "tries", "traceparent"), optional=optional)
        kind = root.child("kind").one_of(WorkKind)
        pipeline = PipelineKey(root.child("pipeline").text(min_length=1))
        run_id = root.child("run_id").nullable_text(pattern=RUN_ID_PATTERN, expected="a run id")
        tries = root.child("tries").integer(minimum=0)
        traceparent = root.child("traceparent").nullable_text()
        consignment = root.child("consignment").text(default="")
        if not problems and (kind is WorkKind.ADVANCE_RUN) != (run_id is not None):
            root.child("run_id").refuse("a run id for advance_run, null for other work")
        backfill_id = root.child("backfill_id").text(default="", pattern="|[0-9a-f]{16}", expected="a backfill's id")
        if not problems and (kind is WorkKind.BACKFILL) != bool(backfill_id):
            root.child("backfill_id").refuse("a backfill's id for backfill, nothing for other work")
        pages = None if root.child("pages").is_absent else root.child("pages").integer(minimum=0)
        if not problems and pages is not None and kind is not WorkKind.BACKFILL:
            root.child("pages").refuse("pages for backfill, nothing for other work")
        if problems:
            raise InvalidDocumentError(problems)
        return cls(
            kind=kind,
            pipeline=pipeline,
            run_id=RunId(run_id) if run_id is not None else None,
            tries=tries,
            traceparent=traceparent,
            consignment=consignment,
            backfill_id=backfill_id,
            pages=pages,
        )

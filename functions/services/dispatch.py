"""Does one piece of queued work, and queues what remains of it."""

from functions.core.errors import IllegalTransitionError, TransientError, UnknownRunError
from functions.core.work import WorkItem, WorkKind
from functions.ports import SpanHandle
from functions.services.backfill_steps import step_backfill
from functions.services.changes import read_run
from functions.services.closing import close_pipeline_batch
from functions.services.plane import ControlPlane, Done, Progress, Wait
from functions.services.putting_back import (
    MENDED_BY_A_PERSON,
    UNTIL_MENDED_S,
    advance_or_put_back,
    back_off_s,
    put_back,
)

__all__ = ["dispatch"]


def dispatch(plane: ControlPlane, text: str | bytes) -> None:
    """Do the work in a message of the dispatch queue.

    Returning acknowledges the message, so whatever is left is in the queue again by then, or is the reconciler's.

    Raises:
        InvalidDocumentError: The message is no work item; it goes to the poison queue.
        QueueUnavailableError: What is left could not be queued; the host delivers the message again.
    """
    item = WorkItem.from_json(text)
    with plane.telemetry.span(
        "dispatch",
        traceparent=item.traceparent,
        kind=item.kind.value,
        pipeline=item.pipeline,
        consignment=item.consignment or None,
        run_id=item.run_id,
        backfill_id=item.backfill_id or None,
        tries=item.tries,
    ) as span:
        _note(span, _work(plane, item))


def _work(plane: ControlPlane, item: WorkItem) -> Progress:
    try:
        if item.run_id is not None:
            progress = advance_or_put_back(plane, read_run(plane.ledger, item.run_id), tries=item.tries)
        elif item.kind is WorkKind.BACKFILL:
            progress = step_backfill(plane, item.backfill_id, pages=item.pages)
        else:
            progress = close_pipeline_batch(plane, item.pipeline, item.consignment)
    except TransientError as error:
        return put_back(plane, item, after_s=back_off_s(item.tries, error.retry_after_s))
    except MENDED_BY_A_PERSON as error:
        put_back(plane, item, after_s=back_off_s(item.tries, UNTIL_MENDED_S))
        return Done(what=str(error))
    except (IllegalTransitionError, UnknownRunError) as error:
        # A rival has taken the run elsewhere meanwhile, or retention has removed it: there is nothing to do.
        return Done(what=str(error))
    if isinstance(progress, Wait):
        return put_back(plane, item, after_s=progress.seconds)
    return progress


def _note(span: SpanHandle, progress: Progress) -> None:
    span.set(outcome=progress.what if isinstance(progress, Done) else progress.why)

"""Breaks the code under test on purpose, one promise at a time, to show that the checks can fail."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, Final
from unittest import mock

from functions.adapters import arrival_tables
from functions.adapters.arrival_tables import ArrivalTables
from functions.adapters.table_ledger import TableLedger
from functions.core import completion, databricks_states, decisions, endings, freezing, splitting
from functions.core.databricks_states import Verdict
from functions.core.errors import MlopsError
from functions.core.ledger import Arrival, Run
from functions.core.model import ArrivalState, RunState
from functions.core.reasons import SkipReason
from functions.core.run_transitions import end_run, mark_published
from functions.core.tokens import digest
from functions.core.turnstile import Turnstile
from functions.ports import Entry
from functions.services import (
    arrive,
    batches,
    complete,
    consignments,
    ending,
    freeing,
    marking,
    outbox,
    retry,
    submission,
)
from functions.services.changes import change_run
from functions.services.plane import Progress, Wait
from tests.simulation.host import Host

__all__ = ["DEFECTS", "broken_by"]

# What a defect puts in place of a function: its owner, its name, and what is made of the original.
Break = tuple[object, str, Callable[[Any], object]]  # Any: functions of every signature


def _submit_before_persisting() -> list[Break]:
    """The call goes out with a token that only this process knows."""

    def begin(_: object, entry: Entry[Run]) -> Entry[Run]:
        run = entry.value
        return replace(entry, value=replace(run, state=RunState.SUBMITTING, token=freezing.token_of(run)))

    def persist(original: Callable[..., Run]) -> object:
        return lambda run, *_: run

    return [(batches, "persist_token", persist), (submission, "_begin", lambda _: begin)]


def _recompute_the_token_on_retry() -> list[Break]:
    """Whoever repeats the call makes a token anew, and takes the time into it."""

    def submit(original: Callable[..., object]) -> object:
        def again(plane: Any, entry: Entry[Run]) -> object:
            token = digest("again", str(plane.clock.now()), entry.value.id)
            with mock.patch.object(submission, "token_of", return_value=token):
                return original(plane, entry)

        return again

    return [(submission, "_submit", submit)]


def _forget_the_attempt() -> list[Break]:
    """The token does not depend on the attempt."""
    return [(freezing, "token_for", lambda original: lambda **wanted: original(**{**wanted, "attempt": 1}))]


def _acknowledge_before_writing() -> list[Break]:
    """A message is deleted before its work is done."""

    def first(original: Callable[..., None]) -> object:
        def invoke(host: Host, message: Any, receipt: int, process: Any) -> None:
            host._acknowledge(message, receipt)
            original(host, message, receipt, process)

        return invoke

    return [(Host, "_invoke", first)]


def _swallow_errors() -> list[Break]:
    """A delivery that failed counts as done."""

    def tolerant(original: Callable[..., object]) -> object:
        def arrived(plane: Any, message: bytes) -> object:
            try:
                return original(plane, message)
            except MlopsError:
                return None

        return arrived

    return [(arrive, "arrive", tolerant)]


def _write_arrivals_without_etag() -> list[Break]:
    """The last writer of an arrival wins."""

    def blind(original: Callable[..., object]) -> object:
        def update(self: ArrivalTables, changes: Sequence[tuple[Entry[Arrival], Arrival]]) -> object:
            current = self.get_arrivals([arrival.blob for _, arrival in changes])
            fresh = [(now or entry, arrival) for now, (entry, arrival) in zip(current, changes, strict=True)]
            return original(self, fresh)

        return update

    return [(ArrivalTables, "update_arrivals", blind)]


def _write_runs_without_etag() -> list[Break]:
    """The last writer of a run wins."""

    def blind(original: Callable[..., object]) -> object:
        def update(self: TableLedger, entry: Entry[Run], run: Run) -> object:
            current = self.get_run(run.id)
            return original(self, replace(entry, version=current.version if current else entry.version), run)

        return update

    return [(TableLedger, "update_run", blind)]


def _succeed_without_the_manifest() -> list[Break]:
    """What Databricks and the notebook say is enough."""
    return [(endings, "_doubts", lambda _: lambda *_: iter(()))]


def _take_the_completion_id_from_a_clock() -> list[Break]:
    """Each announcement has an id of its own."""

    def with_time(event: completion.CompletionEvent) -> str:
        return f"{event.run_id}.{event.attempt}.{event.outcome.value}.{event.time.timestamp():.0f}"

    return [(completion.CompletionEvent, "id", lambda _: property(with_time))]


def _take_the_unknown_for_success() -> list[Break]:
    """A state that nobody has declared counts as a success."""

    def hopeful(original: Callable[..., Verdict]) -> object:
        def verdict(*states: str) -> Verdict:
            found = original(*states)
            return Verdict.SUCCEEDED_CLAIM if found is Verdict.UNKNOWN else found

        return verdict

    return [(databricks_states, "_verdict", hopeful)]


def _let_outputs_trigger() -> list[Break]:
    """What a run has written is decided about like any other file."""

    def lenient(original: Callable[..., Any]) -> object:
        def refuse(*arguments: object) -> object:
            skip = original(*arguments)
            return None if skip is not None and skip.reason is SkipReason.OWN_OUTPUT else skip

        return refuse

    return [(decisions, "_refuse_blob", lenient)]


def _dispatch_without_claims() -> list[Break]:
    """A batch takes what the index shows, without asking whether a rival has it."""

    def take_all(_: object, run_id: Any, held: Sequence[Any]) -> object:
        claims = batches._Claims(run_id=run_id)
        for item in held:
            if item.entry.value.state is ArrivalState.HELD:
                assigned = item.entry.value.assign(run_id, item.entry.value.updated_at)
                claims.mine[assigned.id] = (item, replace(item.entry, value=assigned))
        return claims

    return [(batches, "_claim", lambda _: take_all)]


def _drop_the_outbox() -> list[Break]:
    """An end is noted as announced, and nobody is told."""

    def silent(plane: Any, entry: Entry[Run]) -> Entry[Run]:
        run = entry.value
        if run.state is not RunState.ENDED or run.published_at is not None:
            return entry
        return change_run(plane.ledger, entry, lambda now: mark_published(now, plane.clock.now()))

    return [(module, "publish_outbox", lambda _: silent) for module in (ending, submission, retry)]


def _reopen_a_closed_batch() -> list[Break]:
    """Whoever finds the arrivals of a frozen batch in the index holds them again."""

    def reopen(plane: Any, run: Run, items: Sequence[Any]) -> bool:
        batches._release(plane, run.id, [entry for _, entry in items])
        return bool(items)

    return [(module, "tidy", lambda _: reopen) for module in (batches, consignments)]


def _forget_arrivals_at_the_end() -> list[Break]:
    """A run ends, and what it read is not told."""
    return [(ending, "mark_arrivals", lambda _: lambda *_, **__: None)]


def _fail_the_good_with_the_bad() -> list[Break]:
    """One file that nobody can read fails every file of its batch."""
    return [(marking, "is_split", lambda _: lambda *_, **__: False)]


def _forget_who_goes_on() -> list[Break]:
    """The files that are not to blame are left to the run that has ended."""
    return [(ending, "mark_arrivals", lambda original: lambda *told, **how: bool(original(*told, **how) and False))]


def _free_before_the_end() -> list[Break]:
    """The files that are not to blame are held again while their run is still alive."""

    def early(original: Callable[..., bool]) -> object:
        def mark(plane: Any, run: Run, event: completion.CompletionEvent, manifest: Any, **how: Any) -> bool:
            is_split = original(plane, run, event, manifest, **how)
            blobs = marking.arrivals_of(plane, run, manifest) if is_split else []
            for blob in blobs:
                freeing._free(plane, run, blob, splitting.refused_arrivals(event, blobs))
            return is_split

        return mark

    return [(ending, "mark_arrivals", early)]


def _ignore_late_refusals() -> list[Break]:
    """What a notebook says of its files after its run has ended for us is not heard."""
    return [(complete, "learn_who_is_to_blame", lambda _: lambda plane, entry, event: entry)]


def _end_the_run_before_its_arrivals() -> list[Break]:
    """The run's own end is written first; a crash then leaves its arrivals to nobody."""

    def late(original: Callable[..., object]) -> object:
        def end(plane: Any, entry: Entry[Run], event: Any, manifest: Any, *, scores: Any) -> object:
            if entry.value.state is not RunState.ENDED:
                entry = change_run(plane.ledger, entry, lambda run: end_run(run, event, plane.clock.now()))
                entry = outbox.publish_outbox(plane, entry)
            return original(plane, entry, event, manifest, scores=scores)

        return end

    return [(ending, "_end", late)]


def _release_what_a_rival_has() -> list[Break]:
    """Arrivals that a living rival has claimed are let go, and claimed again: released twice, once too often."""

    def steal(plane: Any, _: object, run_id: Any, items: Sequence[Any]) -> Progress:
        batches._release(plane, run_id, [entry for _, entry in items])
        return Wait(why="they are held again", seconds=1)

    return [(batches, "_rescue", lambda _: steal)]


def _never_release() -> list[Break]:
    """What a frozen batch lacks stays assigned to its run for ever."""
    return [(batches, "_release", lambda _: lambda *_: None)]


def _forget_the_index_first() -> list[Break]:
    """Claimed arrivals leave the index before their run is written."""

    def early(original: Callable[..., Any]) -> object:
        def claim(plane: Any, run_id: Any, held: Sequence[Any]) -> Any:
            claims = original(plane, run_id, held)
            plane.ledger.forget_held([item for item, _ in claims.mine.values()])
            return claims

        return claim

    return [(batches, "_claim", early)]


def _identify_by_path_alone() -> list[Break]:
    """An overwritten file counts as one that has arrived already."""

    def path_only(original: Callable[..., tuple[str, str]]) -> object:
        return lambda blob: original(replace(blob, etag="any"))

    return [(arrival_tables, "place_of", path_only)]


def _believe_reports_of_other_attempts() -> list[Break]:
    """A late report of an earlier attempt counts for the one that runs now."""

    def believe(original: Callable[..., Run]) -> object:
        def record(run: Run, event: completion.CompletionEvent, at: Any) -> Run:
            token = run.token or event.token
            return original(run, replace(event, attempt=run.attempt, token=token), at)

        return record

    return [(complete, "record_report", believe)]


def _start_again_after_success() -> list[Break]:
    """A throttled or lost question about a run counts as its failure."""

    def hasty(original: Callable[..., Any]) -> object:
        def ask(plane: Any, entry: Entry[Run]) -> Any:
            try:
                return original(plane, entry)
            except MlopsError:
                return entry, databricks_states.status_of("INTERNAL_ERROR", "FAILED", "CLOUD_FAILURE")

        return ask

    return [(ending, "_ask", hasty)]


def _let_everyone_pass() -> list[Break]:
    """Nobody is turned away, however many runs are in flight."""
    return [(Turnstile, "refuses", lambda _: lambda *_: None)]


def _raise_no_alert() -> list[Break]:
    """A state that nobody knows ends a run, and nobody is told."""
    return [(ending, "raise_alert", lambda _: lambda *_: None)]


def _leave_the_index_of_open_runs() -> list[Break]:
    """A run is not put into the index of open runs, so nobody comes back for it."""

    def unopened(original: Callable[..., object]) -> object:
        def insert(self: TableLedger, run: Run) -> object:
            unwritten = mock.patch.multiple(self._open, insert=lambda *_: None, put=lambda *_: "")
            with unwritten:
                return original(self, run)

        return insert

    return [(TableLedger, "insert_run", unopened)]


DEFECTS: Final[Mapping[str, Callable[[], list[Break]]]] = {
    function.__name__.strip("_").replace("_", " "): function
    for function in (
        _submit_before_persisting,
        _recompute_the_token_on_retry,
        _forget_the_attempt,
        _acknowledge_before_writing,
        _swallow_errors,
        _write_arrivals_without_etag,
        _write_runs_without_etag,
        _succeed_without_the_manifest,
        _take_the_completion_id_from_a_clock,
        _take_the_unknown_for_success,
        _let_outputs_trigger,
        _dispatch_without_claims,
        _drop_the_outbox,
        _reopen_a_closed_batch,
        _forget_arrivals_at_the_end,
        _fail_the_good_with_the_bad,
        _forget_who_goes_on,
        _free_before_the_end,
        _ignore_late_refusals,
        _end_the_run_before_its_arrivals,
        _release_what_a_rival_has,
        _never_release,
        _forget_the_index_first,
        _identify_by_path_alone,
        _believe_reports_of_other_attempts,
        _start_again_after_success,
        _let_everyone_pass,
        _raise_no_alert,
        _leave_the_index_of_open_runs,
    )
}


@contextmanager
def broken_by(name: str | None) -> Iterator[None]:
    """Have the code under test broken while this lasts; None: leave it whole."""
    with ExitStack() as stack:
        for owner, attribute, make in DEFECTS[name]() if name is not None else ():
            original = owner.__dict__[attribute] if isinstance(owner, type) else getattr(owner, attribute)
            stack.enter_context(mock.patch.object(owner, attribute, make(original)))
        yield

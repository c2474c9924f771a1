"""Holds the ledger to one suite on tables in memory and on Azurite."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from functions.adapters.table_ledger import TableLedger
from functions.adapters.tables import AzureTables
from functions.core.alerts import Alert, AlertKind
from functions.core.completion import CompletionEvent
from functions.core.consignments import Consignment
from functions.core.endings import announce
from functions.core.errors import LedgerConflictError
from functions.core.freezing import token_of
from functions.core.ledger import Arrival, Cause, CauseKind, Run
from functions.core.manifest import ManifestPointer
from functions.core.model import (
    ArrivalSource,
    ArrivalState,
    BatchId,
    BlobVersion,
    DatabricksRunId,
    JobKey,
    Outcome,
    PipelineKey,
    RunId,
    RunKind,
    RunState,
    Stage,
)
from functions.core.run_transitions import (
    begin_next_attempt,
    end_run,
    mark_published,
    persist_token,
    record_submitted,
)
from functions.core.tokens import arrival_id_of, run_id_of
from functions.core.turnstile import Pause, Seat, Turnstile
from functions.ports import ClaimedRequest, Entry, NotedSlot, OpenRun, QuarantinedMessage
from tests.support.control_plane import make_blob
from tests.support.in_memory import InMemoryTables
from tests.support.storage_ports import fresh_name, storage_of

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
BEFORE, AFTER = NOON - timedelta(1), NOON + timedelta(1)
PIPELINE = PipelineKey("flight_delay_scoring")


@pytest.fixture(params=["memory", pytest.param("azurite", marks=pytest.mark.integration)])
def ledger(request: pytest.FixtureRequest) -> Iterator[TableLedger]:
    if request.param == "memory":
        yield TableLedger(InMemoryTables())
        return
    with storage_of(request.getfixturevalue("azurite")) as storage:
        yield TableLedger(AzureTables(storage, prefix=fresh_name("l")))


def make_arrival(
    blob: BlobVersion | None = None, *, state: ArrivalState = ArrivalState.HELD, at: datetime = NOON
) -> Arrival:
    blob = blob or make_blob()
    return Arrival(
        id=arrival_id_of(blob),
        blob=blob,
        state=state,
        event_id="e1",
        event_time=at,
        api="PutBlob",
        content_type="",
        recorded_at=at,
        updated_at=at,
        pipeline=PIPELINE if state is ArrivalState.HELD else None,
        reason=None if state is ArrivalState.HELD else "nobody wants it",
    )


def make_run(*, at: datetime = NOON, name: str = "a") -> Run:
    return Run(
        id=run_id_of(PIPELINE, at, "request", name),
        pipeline=PIPELINE,
        kind=RunKind.SCORING,
        job=JobKey("scoring"),
        environment="local",
        state=RunState.DECIDED,
        cause=Cause(kind=CauseKind.REQUEST, name=name, at=at),
        stages=dict.fromkeys((Stage.VALIDATION, Stage.FEATURE_ENGINEERING, Stage.BATCH_SCORING, Stage.PUBLISH), True),
        parameters={"max_quarantined_fraction": "0.05"},
        model_name="main.tidegate.flight_delay",
        model_version="7",
        batch_id=BatchId("0" * 16),
        output_url="https://tidegatelocal.blob.core.windows.net/scores/x",
        created_at=at,
        updated_at=at,
        max_attempts=3,
        manifest=ManifestPointer(
            url="https://tidegatelocal.blob.core.windows.net/tidegate/manifests/x.json", sha256="0" * 64
        ),
    )


def failed(run: Run) -> Run:
    event: CompletionEvent = announce(run, Outcome.FAILED, "scripted", now=NOON)
    return end_run(run, event, NOON)


def test_the_first_delivery_is_recorded_and_the_second_counted(ledger: TableLedger) -> None:
    first, held, is_new = ledger.record_arrival(make_arrival())
    again, _, is_new_again = ledger.record_arrival(make_arrival(at=NOON + timedelta(minutes=1)))

    assert (is_new, is_new_again) == (True, False)
    assert held is not None
    assert (first.value.deliveries, again.value.deliveries) == (1, 2)
    assert again.value.recorded_at == NOON


def test_many_workers_record_one_arrival_once(ledger: TableLedger) -> None:
    """R07: however many deliveries at once, one of them made the entry and all are counted."""
    with ThreadPoolExecutor(4) as pool:
        made = [is_new for _, _, is_new in pool.map(ledger.record_arrival, [make_arrival()] * 4)]

    entry = ledger.get_arrival(make_blob())
    assert entry is not None
    assert (sorted(made), entry.value.deliveries) == ([False, False, False, True], 4)


def test_held_arrivals_are_indexed_oldest_event_first(ledger: TableLedger) -> None:
    for minute, name in ((3, "c"), (1, "a"), (2, "b")):
        ledger.record_arrival(make_arrival(make_blob(name), at=NOON + timedelta(minutes=minute)))
    ledger.record_arrival(make_arrival(make_blob("z"), state=ArrivalState.IGNORED))

    held = ledger.held_arrivals(PIPELINE, limit=2)

    assert [item.entry.value.blob.path for item in held] == ["flights/new/a", "flights/new/b"]
    assert ledger.held_arrivals(PipelineKey("another"), limit=2) == []


def test_a_backfilled_arrival_whose_event_comes_meanwhile_is_held_once(ledger: TableLedger) -> None:
    """Its row in the index is written first, at the time that storage tells; the event tells another one."""
    of_event = make_arrival(at=NOON + timedelta(seconds=1))
    ledger.record_arrival(of_event)

    ledger.record_arrival(replace(make_arrival(), source=ArrivalSource.BACKFILL))
    (held,) = ledger.held_arrivals(PIPELINE, limit=10)

    assert (held.entry.value.id, held.entry.value.source) == (of_event.id, ArrivalSource.EVENT)


def test_an_index_row_is_forgotten_only_in_the_version_that_was_seen(ledger: TableLedger) -> None:
    """A slow worker must not hide an arrival that was held again after it looked."""
    _, seen, _ = ledger.record_arrival(make_arrival())
    assert seen is not None
    ledger.record_arrival(make_arrival())  # writes the index row anew

    ledger.forget_held([seen])
    left = ledger.held_arrivals(PIPELINE, limit=10)
    ledger.forget_held(left)

    assert len(left) == 1
    assert ledger.held_arrivals(PIPELINE, limit=10) == []


def test_a_claim_through_the_index_needs_the_entrys_version(ledger: TableLedger) -> None:
    """Two dispatchers that see the same index: one of them gets the arrival."""
    ledger.record_arrival(make_arrival())
    (held,) = ledger.held_arrivals(PIPELINE, limit=10)
    mine = held.entry.value.assign(RunId("run-a"), NOON)
    theirs = held.entry.value.assign(RunId("run-b"), NOON)

    written = ledger.update_arrivals([(held.entry, mine)]) + ledger.update_arrivals([(held.entry, theirs)])

    assert [entry is None for entry in written] == [False, True]
    entry = ledger.get_arrival(make_blob())
    assert entry is not None
    assert entry.value.run_id == "run-a"


def test_an_arrival_that_is_released_is_in_the_index_before_its_row_says_held(ledger: TableLedger) -> None:
    entry, held, _ = ledger.record_arrival(make_arrival())
    assert held is not None
    (assigned,) = ledger.update_arrivals([(entry, entry.value.assign(RunId("run-a"), NOON))])
    assert assigned is not None
    ledger.forget_held([held])

    released = ledger.update_arrival(assigned, assigned.value.release(RunId("run-a"), NOON, "left out"))

    (found,) = ledger.held_arrivals(PIPELINE, limit=10)
    assert found.entry == released


def test_arrivals_of_one_path_are_all_its_versions_and_no_others(ledger: TableLedger) -> None:
    for name, etag in (("a", "0x1"), ("a", "0x2"), ("ab", "0x1")):
        ledger.record_arrival(make_arrival(make_blob(name, etag=etag)))

    found = ledger.arrivals_of_path("tidegatelocal", "input", "flights/new/a")

    assert sorted(entry.value.blob.etag for entry in found) == ["0x1", "0x2"]


def test_many_arrivals_are_changed_across_partitions(ledger: TableLedger) -> None:
    entries = [ledger.record_arrival(make_arrival(make_blob(f"{index}")))[0] for index in range(60)]
    stale = entries[30]
    ledger.update_arrival(stale, stale.value.hold_because("no_model_yet", NOON))

    written = ledger.update_arrivals([(entry, entry.value.assign(RunId("run-a"), NOON)) for entry in entries])

    assert [index for index, entry in enumerate(written) if entry is None] == [30]


def test_the_first_run_of_an_id_wins(ledger: TableLedger) -> None:
    first, is_new = ledger.insert_run(make_run())
    second, is_new_again = ledger.insert_run(replace(make_run(), model_version="8"))

    assert (is_new, is_new_again) == (True, False)
    assert second == first
    assert [run.run_id for run in ledger.open_runs()] == [make_run().id]


def test_a_run_survives_its_row_with_its_outbox(ledger: TableLedger) -> None:
    run = failed(record_submitted(persist_token(make_run(), token_of(make_run()), NOON), DatabricksRunId(2**53), NOON))
    ledger.insert_run(run)

    entry = ledger.get_run(run.id)

    assert entry is not None
    assert entry.value == run


def test_a_stale_change_of_a_run_is_refused(ledger: TableLedger) -> None:
    entry, _ = ledger.insert_run(make_run())
    submitting = persist_token(entry.value, token_of(entry.value), NOON)
    ledger.update_run(entry, submitting)

    with pytest.raises(LedgerConflictError):
        ledger.update_run(entry, submitting)


def test_a_run_is_open_until_its_end_is_announced(ledger: TableLedger) -> None:
    entry, _ = ledger.insert_run(make_run())

    entry = ledger.update_run(entry, failed(entry.value))
    unannounced = [run.run_id for run in ledger.open_runs()]
    entry = ledger.update_run(entry, mark_published(entry.value, NOON))
    announced = [run.run_id for run in ledger.open_runs()]
    ledger.update_run(entry, begin_next_attempt(entry.value, NOON, after=1, reason="again"))
    again = [run.run_id for run in ledger.open_runs(PIPELINE)]

    assert (unannounced, announced, again) == ([make_run().id], [], [make_run().id])


def test_a_repeated_insert_does_not_open_what_is_over(ledger: TableLedger) -> None:
    entry, _ = ledger.insert_run(make_run())
    entry = ledger.update_run(entry, failed(entry.value))
    ledger.update_run(entry, mark_published(entry.value, NOON))

    ledger.insert_run(make_run())

    assert list(ledger.open_runs()) == []


def test_open_runs_of_one_pipeline_are_its_own(ledger: TableLedger) -> None:
    ledger.insert_run(make_run())
    ledger.insert_run(replace(make_run(), id=RunId(f"{PIPELINE}_2-20260301T120000Z-0123456789ab")))

    assert [run.run_id for run in ledger.open_runs(PIPELINE)] == [make_run().id]


def opened_and_ended(ledger: TableLedger) -> tuple[OpenRun, Entry[Run]]:
    """Return a run's index row from before its end, and the run after it."""
    entry, _ = ledger.insert_run(make_run())
    (seen,) = ledger.open_runs()
    entry = ledger.update_run(entry, failed(entry.value))
    return seen, ledger.update_run(entry, mark_published(entry.value, NOON))


def test_an_index_row_says_after_which_version_of_a_run_its_story_goes_on(ledger: TableLedger) -> None:
    first, ended = opened_and_ended(ledger)
    ledger.update_run(ended, begin_next_attempt(ended.value, NOON, after=1, reason="again"))

    (reopened,) = ledger.open_runs()

    assert (first.reopens, reopened.reopens) == ("", ended.version)


def test_an_index_row_that_was_reopened_is_not_forgotten(ledger: TableLedger) -> None:
    seen, entry = opened_and_ended(ledger)
    ledger.update_run(entry, begin_next_attempt(entry.value, NOON, after=1, reason="again"))

    ledger.forget_open(seen)

    assert [run.run_id for run in ledger.open_runs()] == [make_run().id]


def test_runs_are_listed_newest_first_across_months(ledger: TableLedger) -> None:
    times = [datetime(2025, 11, 30, 23, 59, 59, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC), NOON]
    for index, at in enumerate(times):
        ledger.insert_run(make_run(at=at, name=str(index)))

    all_of_them = ledger.runs([PIPELINE], since=datetime(2025, 1, 1, tzinfo=UTC), until=NOON + timedelta(1), limit=10)
    newest = ledger.runs([PIPELINE], since=datetime(2025, 1, 1, tzinfo=UTC), until=NOON + timedelta(1), limit=1)
    recent = ledger.runs([PIPELINE], since=datetime(2026, 1, 1, tzinfo=UTC), until=NOON, limit=10)

    assert [run.cause.at for run in all_of_them] == times[::-1]
    assert [run.cause.at for run in newest] == [NOON]
    assert [run.cause.at for run in recent] == [times[1]]


def test_arrivals_are_listed_newest_first_since_a_time(ledger: TableLedger) -> None:
    for minute, name in ((0, "a"), (1, "b"), (2, "c")):
        ledger.record_arrival(make_arrival(make_blob(name), at=NOON + timedelta(minutes=minute)))

    found = ledger.arrivals([PIPELINE], since=NOON + timedelta(minutes=1), until=NOON + timedelta(1), limit=10)
    before = ledger.arrivals([PIPELINE], since=NOON, until=NOON + timedelta(minutes=2), limit=1)

    assert [arrival.blob.path for arrival in found] == ["flights/new/c", "flights/new/b"]
    assert [arrival.blob.path for arrival in before] == ["flights/new/b"]


def test_arrivals_of_several_pipelines_and_of_none_are_listed_in_one_order(ledger: TableLedger) -> None:
    for minute, name in ((0, "a"), (1, "b"), (2, "c")):
        state = ArrivalState.IGNORED if name == "b" else ArrivalState.HELD
        ledger.record_arrival(make_arrival(make_blob(name), state=state, at=NOON + timedelta(minutes=minute)))

    everything = ledger.arrivals([PIPELINE, None, PipelineKey("another")], limit=10, since=BEFORE, until=AFTER)
    unwanted = ledger.arrivals([None], limit=10, since=BEFORE, until=AFTER)
    chosen = ledger.arrivals(
        [PIPELINE], limit=1, where=lambda arrival: arrival.blob.path.endswith("a"), since=BEFORE, until=AFTER
    )

    assert [arrival.blob.path[-1] for arrival in everything] == ["c", "b", "a"]
    assert [arrival.blob.path[-1] for arrival in unwanted] == ["b"]
    assert [arrival.blob.path[-1] for arrival in chosen] == ["a"]


def test_arrivals_are_listed_across_months_and_more_than_one_reading(ledger: TableLedger) -> None:
    new_year = datetime(2026, 1, 1, tzinfo=UTC)
    for index in range(-3, 120):
        ledger.record_arrival(make_arrival(make_blob(f"{index}"), at=new_year + timedelta(seconds=index)))

    found = ledger.arrivals([PIPELINE], since=new_year - timedelta(seconds=2), until=NOON, limit=1000)

    names = [arrival.blob.path.rpartition("/")[2] for arrival in found]
    assert names == [f"{index}" for index in range(119, -3, -1)]


def test_an_arrival_that_was_given_to_another_pipeline_is_listed_as_its_own_once(ledger: TableLedger) -> None:
    entry, _, _ = ledger.record_arrival(make_arrival(state=ArrivalState.IGNORED))
    ledger.update_arrival(entry, entry.value.replay(PIPELINE, NOON, "a person mended the route"))

    both = ledger.arrivals([PIPELINE, None], limit=10, since=BEFORE, until=AFTER)
    nobodys = ledger.arrivals([None], limit=10, since=BEFORE, until=AFTER)

    assert [arrival.pipeline for arrival in both] == [PIPELINE]
    assert nobodys == []


def test_the_arrivals_of_a_run_are_found_without_its_manifest(ledger: TableLedger) -> None:
    run = replace(make_run(), arrival_count=2)
    for name in ("a", "b", "c"):
        entry, _, _ = ledger.record_arrival(make_arrival(make_blob(name)))
        if name != "c":
            ledger.update_arrival(entry, entry.value.assign(run.id, NOON))

    found = ledger.arrivals_of_run(run)

    assert sorted(blob.path[-1] for blob in found) == ["a", "b"]


def test_many_arrivals_are_read_at_once(ledger: TableLedger) -> None:
    first, _, _ = ledger.record_arrival(make_arrival(make_blob("a")))

    found = ledger.get_arrivals([make_blob("none"), make_blob("a")])

    assert found == [None, first]


def test_a_redelivery_leaves_the_entry_at_its_version(ledger: TableLedger) -> None:
    """A storm of repeats does not get into the way of the dispatcher, which claims what it read before."""
    first, held, _ = ledger.record_arrival(make_arrival())
    ledger.record_arrival(make_arrival(), is_first_try=True)

    (claimed,) = ledger.update_arrivals([(first, first.value.assign(RunId("run-a"), NOON))])

    assert held is not None
    assert claimed is not None
    known = ledger.get_arrival(make_blob())
    assert known is not None
    assert (known.value.state, known.value.deliveries) == (ArrivalState.ASSIGNED, 2)


def test_a_write_does_not_count_redeliveries_twice(ledger: TableLedger) -> None:
    for _ in range(3):
        ledger.record_arrival(make_arrival())
    known = ledger.get_arrival(make_blob())
    assert known is not None

    written = ledger.update_arrival(known, known.value.assign(RunId("run-a"), NOON))
    ledger.update_arrival(written, written.value.mark_scored(RunId("run-a"), NOON))

    (entry,) = ledger.arrivals_of_path("tidegatelocal", "input", "flights/new/2013-07.parquet")
    assert (entry.value.state, entry.value.deliveries) == (ArrivalState.SCORED, 3)


def test_another_message_of_a_young_arrival_leaves_it_to_the_first(ledger: TableLedger) -> None:
    """The first one's message comes back if it died; a later try of any message looks after the index itself."""
    _, first, _ = ledger.record_arrival(make_arrival(), is_first_try=True)
    _, second, _ = ledger.record_arrival(make_arrival(at=NOON + timedelta(minutes=1)), is_first_try=True)
    _, late, _ = ledger.record_arrival(make_arrival(at=NOON + timedelta(minutes=5)), is_first_try=True)
    _, again, _ = ledger.record_arrival(make_arrival(at=NOON + timedelta(minutes=1)))

    assert first is not None
    assert second is None
    assert late is not None
    assert again is not None


def test_a_new_version_of_a_known_path_says_so(ledger: TableLedger) -> None:
    """Only then the other versions are read, to supersede what is older."""
    _, first, _ = ledger.record_arrival(make_arrival(make_blob("a", etag="0x1")))
    _, other, _ = ledger.record_arrival(make_arrival(make_blob("b", etag="0x1")))
    _, newer, _ = ledger.record_arrival(make_arrival(make_blob("a", etag="0x2")))

    assert first is not None
    assert other is not None
    assert newer is not None
    assert (first.is_known_path, other.is_known_path, newer.is_known_path) == (False, False, True)


def test_a_request_keeps_the_time_of_its_first_claim(ledger: TableLedger) -> None:
    first = ClaimedRequest(request_id="key with / and #", requested_at=NOON, fingerprint="a")
    later = ClaimedRequest(request_id="key with / and #", requested_at=NOON + timedelta(1), fingerprint="b")

    assert ledger.claim_request(first) == first
    assert ledger.claim_request(later) == first


def test_the_last_slot_only_moves_forward(ledger: TableLedger) -> None:
    assert ledger.last_slot(PIPELINE, "monthly") is None

    for day in (1, 3, 2):
        ledger.note_slot(PIPELINE, "monthly", make_slot(day, "a"), "done")

    assert ledger.last_slot(PIPELINE, "monthly") == make_slot(3, "a")


def test_the_last_slot_may_be_noted_again_under_another_timetable(ledger: TableLedger) -> None:
    for noted in (make_slot(3, "a"), make_slot(3, "b"), make_slot(2, "c")):
        ledger.note_slot(PIPELINE, "monthly", noted, "done")

    assert ledger.last_slot(PIPELINE, "monthly") == make_slot(3, "b")


def test_a_slot_that_is_taken_back_keeps_its_timetable(ledger: TableLedger) -> None:
    ledger.note_slot(PIPELINE, "monthly", make_slot(9, "a"), "done")

    ledger.take_back_slot(PIPELINE, "monthly", make_slot(9, "a").slot, make_slot(2, "a").slot, "a wrong clock")

    assert ledger.last_slot(PIPELINE, "monthly") == make_slot(2, "a")


def make_slot(day: int, timetable: str) -> NotedSlot:
    return NotedSlot(slot=datetime(2026, 3, day, tzinfo=UTC), timetable=timetable)


def test_quarantined_messages_are_kept_once_and_listed_newest_first(ledger: TableLedger) -> None:
    for minute, id_ in ((0, "m1"), (1, "m2"), (0, "m1")):
        message = QuarantinedMessage(
            id=id_, queue="arrivals", at=NOON + timedelta(minutes=minute), reason="no event", url="https://x"
        )
        ledger.record_quarantined(message)

    assert [message.id for message in ledger.quarantined(limit=10)] == ["m2", "m1"]


def test_alerts_are_listed_newest_first_and_each_once(ledger: TableLedger) -> None:
    for minute, attempt in ((0, 1), (1, 2), (2, 1), (9, 3)):
        alert = Alert(
            kind=AlertKind.RUN_STALLED,
            pipeline=make_run().pipeline,
            run_id=make_run().id,
            attempt=attempt,
            at=NOON + timedelta(minutes=minute),
            detail="submitted",
        )
        ledger.record_alert(alert)

    found = ledger.alerts(since=NOON, limit=10)

    assert [(alert.attempt, alert.at) for alert in found] == [
        (3, NOON + timedelta(minutes=9)),
        (1, NOON + timedelta(minutes=2)),
        (2, NOON + timedelta(minutes=1)),
    ]
    assert [alert.attempt for alert in ledger.alerts(since=NOON + timedelta(minutes=5), limit=10)] == [3]


def test_an_alert_about_a_pipelines_day_is_listed_once_a_day(ledger: TableLedger) -> None:
    """A spent budget is told again after a crash, and is still one thing to look at."""
    pipeline = make_run().pipeline
    for hours in (0, 1, 24):
        at = NOON + timedelta(hours=hours)
        ledger.record_alert(Alert(kind=AlertKind.BUDGET_SPENT, pipeline=pipeline, at=at, detail="10 of 10"))

    found = ledger.alerts(since=NOON, limit=10)

    assert [(alert.pipeline, alert.run_id, alert.attempt, alert.at) for alert in found] == [
        (pipeline, None, None, NOON + timedelta(hours=24)),
        (pipeline, None, None, NOON + timedelta(hours=1)),
    ]


def test_of_many_workers_at_the_turnstile_one_write_wins(ledger: TableLedger) -> None:
    """Whoever read an older turnstile is refused, so a limit that was checked still holds when it is written."""
    empty = ledger.read_turnstile()

    def write(number: int) -> bool:
        pause = Pause(pipeline=PipelineKey(f"p{number}"), by="ada", at=NOON, reason="ß" * 200)
        try:
            ledger.update_turnstile(empty, empty.value.pause(pause))
        except LedgerConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        first = list(pool.map(write, range(8)))
    seen = ledger.read_turnstile()
    seat = Seat(run_id=make_run().id, attempt=1, pipeline=PIPELINE, taken_at=NOON)
    seated = ledger.update_turnstile(seen, seen.value.adopt((seat,)))

    assert empty.value == Turnstile()
    assert sum(first) == 1
    assert len(seen.value.pauses) == 1
    assert ledger.read_turnstile() == seated
    with pytest.raises(LedgerConflictError):
        ledger.update_turnstile(seen, seen.value)


def held_names(ledger: TableLedger, consignment: str | None) -> list[str]:
    held = ledger.held_arrivals(PIPELINE, limit=10, consignment=consignment)
    return [item.entry.value.blob.path.rpartition("/")[2] for item in held]


def test_held_arrivals_of_a_consignment_are_together_in_the_index(ledger: TableLedger) -> None:
    """However many others wait, those of one folder are read alone, and a walk sees every folder."""
    for minute, (name, place) in enumerate([("a", "input/x/"), ("b", ""), ("c", "input/y/"), ("d", "input/x/")]):
        arrival = make_arrival(make_blob(name), at=NOON + timedelta(minutes=minute))
        ledger.record_arrival(replace(arrival, consignment=place))

    found, after = [], ""
    while (step := ledger.next_consignment(PIPELINE, after=after)) is not None:
        after, place = step
        found.append(place)

    assert held_names(ledger, "input/x/") == ["a", "d"]
    assert held_names(ledger, "input/y/") == ["c"]
    assert held_names(ledger, "input/z/") == []
    assert held_names(ledger, "") == ["b"]
    assert sorted(held_names(ledger, None)) == ["a", "b", "c", "d"]
    assert sorted(found) == ["input/x/", "input/y/"]
    ledger.forget_held(ledger.held_arrivals(PIPELINE, limit=10, consignment="input/x/"))
    assert held_names(ledger, None) == ["b", "c"]


def test_a_consignment_moves_on_by_compare_and_set(ledger: TableLedger) -> None:
    place = "input/naïve #1/"
    first = Consignment(pipeline=PIPELINE, place=place, run_id=make_run().id)
    assert ledger.consignment(PIPELINE, place) is None

    entry = ledger.move_consignment(None, first)
    second = replace(first, run_id=make_run(name="b").id, version=2, replaces=first.run_id, is_frozen=True)
    ledger.move_consignment(entry, second)

    for stale in (None, entry):
        with pytest.raises(LedgerConflictError):
            ledger.move_consignment(stale, first)
    found = ledger.consignment(PIPELINE, place)
    assert found is not None
    assert found.value == second
    assert ledger.consignment(PipelineKey("other"), place) is None


def test_a_bookmark_is_what_was_last_remembered(ledger: TableLedger) -> None:
    assert ledger.bookmark("walk") == {}

    ledger.set_bookmark("walk", {"after": "x" * 40_000, "empty": ""})
    ledger.set_bookmark("walk", {"after": "y" * 40_000})

    assert ledger.bookmark("walk") == {"after": "y" * 40_000}

"""Tests that what was ignored, failed or given up goes the same path again, and nothing twice in effect (R74)."""

import base64
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from functions.core.access import Actor
from functions.core.errors import (
    AccessRefusedError,
    DeadLetterRefusedError,
    IllegalTransitionError,
    InvalidRequestError,
    LedgerConflictError,
    NotFoundError,
    PublicationError,
    StorageUnavailableError,
    UnknownRunError,
)
from functions.core.ledger import CHANGES_KEPT
from functions.core.model import ArrivalState, BlobVersion, Outcome, RunState
from functions.core.reading import to_iso
from functions.core.replays import Replay
from functions.core.work import WorkItem, WorkKind
from functions.services import replay as replay_service
from functions.services.acted import Acted
from functions.services.arrive import Arrived, arrive
from functions.services.changes import read_run
from functions.services.dead_letters import list_dead_letters
from functions.services.dispatch import dispatch
from functions.services.plane import ControlPlane
from functions.services.quarantine import quarantine_message
from functions.services.reconcile import reconcile
from functions.services.replay import replay
from functions.services.retry import retry_run
from functions.services.submission import advance_run
from tests.support.control_plane import SCORING, World, blob_message, make_blob, make_pipelines
from tests.support.fault_walk import CrashAt, FailAt, LoseRunWrite, ProcessDiedError, survive, walk_faults, work
from tests.support.in_memory import Faults

ANN = Actor(name="ann@contoso.com")


def ask(world: World, key: str | None = None, **body: str) -> tuple[Replay, Acted]:
    return replay(world.plane, json.dumps(body).encode(), idempotency_key=key, actor=ANN)


def failed(world: World) -> BlobVersion:
    blob = make_blob()
    world.deliver(blob)
    world.finish(world.databricks_runs()[-1], outcome=Outcome.FAILED)
    world.settle()
    assert world.arrival(blob).state is ArrivalState.FAILED
    return blob


def ignored(world: World) -> BlobVersion:
    """Return a blob that the present configuration does not want, and the next one does."""
    blob = replace(make_blob("2013-07.csv"))
    world.deliver(blob)
    assert world.arrival(blob).state is ArrivalState.IGNORED
    text = make_pipelines()
    world.pipelines = replace(
        text,
        pipelines=tuple(
            replace(pipeline, routes=tuple(replace(route, glob="*") for route in pipeline.routes))
            for pipeline in text.pipelines
        ),
        version="another",
    )
    world.plane = world.make_plane()
    return blob


def test_a_failed_arrival_goes_again_as_the_next_attempt_of_its_run() -> None:
    """R74: one arrival, on the path of its first time."""
    world = World()
    blob = failed(world)

    replayed, acted = ask(world, arrival=world.arrival(blob).id)
    world.settle_submissions()

    (run,) = world.runs()
    assert (run.attempt, run.state) == (2, RunState.SUBMITTED)
    assert acted.did == (f"held it for {SCORING}, whose next batch takes it",)
    assert any(replayed.note in change.note for change in world.arrival(blob).history)


def test_an_ignored_arrival_is_decided_again_by_the_present_configuration() -> None:
    world = World()
    blob = ignored(world)

    _, acted = ask(world, arrival=world.arrival(blob).id)
    world.settle_submissions()

    assert acted.did_not == ()
    assert (world.arrival(blob).state, world.arrival(blob).config_version) == (ArrivalState.ASSIGNED, "another")
    assert len(world.databricks_runs()) == 1


def test_what_is_still_not_wanted_stays_ignored_and_says_why() -> None:
    world = World()
    blob = make_blob("2013-07.csv")
    world.deliver(blob)

    _, acted = ask(world, arrival=world.arrival(blob).id)

    assert acted.did == ("decided about it again",)
    assert "no route matches" in acted.did_not[0]
    assert world.arrival(blob).state is ArrivalState.IGNORED


def test_the_same_key_replays_once_even_after_it_failed_again() -> None:
    """Nothing is replayed twice in effect: the operator's key names one replay."""
    world = World()
    blob = failed(world)
    arrival_id = world.arrival(blob).id
    ask(world, "ticket-17", arrival=arrival_id)
    world.settle_submissions()
    world.finish(world.databricks_runs()[-1], outcome=Outcome.FAILED)
    world.settle()

    _, acted = ask(world, "ticket-17", arrival=arrival_id)
    world.settle()

    assert acted.did == ()
    assert acted.did_not[0].startswith("did it not again")
    assert world.runs()[0].attempt == 2


def test_without_a_key_what_failed_again_is_another_replay() -> None:
    world = World()
    blob = failed(world)
    one, _ = ask(world, arrival=world.arrival(blob).id)
    world.settle_submissions()
    world.finish(world.databricks_runs()[-1], outcome=Outcome.FAILED)
    world.settle()

    other, acted = ask(world, arrival=world.arrival(blob).id)

    assert one.id != other.id
    assert acted.did


def test_what_failed_once_more_after_a_long_history_is_another_replay() -> None:
    """A history keeps sixty changes, and their number says nothing from then on."""
    world = World()
    blob = failed(world)
    for _ in range(25):
        world.clock.advance(timedelta(minutes=1))
        _, acted = ask(world, arrival=world.arrival(blob).id)
        assert acted.did
        world.settle_submissions()
        world.finish(world.databricks_runs()[-1], outcome=Outcome.FAILED)
        world.settle()

    assert len(world.arrival(blob).history) == CHANGES_KEPT


def test_a_replay_that_died_half_way_is_gone_on_with_and_not_done_again() -> None:
    """R74: under one key, it is done once in effect."""
    world = World()
    blob = failed(world)
    arrival_id = world.arrival(blob).id
    first, _ = ask(world, "k", arrival=arrival_id)
    world.settle_submissions()
    world.finish(world.databricks_runs()[-1], outcome=Outcome.FAILED)
    world.settle()
    rows = world.tables.rows["operations"]
    for place, (values, version) in list(rows.items()):  # as if it had died before it wrote down what it did
        rows[place] = ({name: value for name, value in values.items() if name != "done_at"}, version)

    again, acted = ask(world, "k", arrival=arrival_id)

    assert again.id == first.id
    assert acted.did == ()
    assert world.arrival(blob).state is ArrivalState.FAILED


def test_a_key_stands_for_one_target() -> None:
    world = World()
    blob = failed(world)
    ask(world, "k", arrival=world.arrival(blob).id)

    with pytest.raises(InvalidRequestError, match="the same target"):
        ask(world, "k", run=world.runs()[0].id)


def test_what_waits_or_runs_is_left_alone() -> None:
    world = World(pipelines=make_pipelines(quiet=600, max_wait=600))
    world.deliver(make_blob("held.parquet"))
    running = World()
    running.deliver(make_blob())

    _, held = ask(world, arrival=world.arrival(make_blob("held.parquet")).id)
    _, assigned = ask(running, arrival=running.arrival(make_blob()).id)

    assert "held already" in held.did_not[0]
    assert "retry or cancel that one" in assigned.did_not[0]


def test_what_was_scored_or_replaced_is_refused_with_what_to_do() -> None:
    world = World()
    world.deliver(make_blob())
    world.finish(world.databricks_runs()[0])
    world.settle()
    with pytest.raises(IllegalTransitionError, match="POST /api/runs"):
        ask(world, arrival=world.arrival(make_blob()).id)

    older = World()
    old, new = make_blob(etag="0x1", sequencer="1"), make_blob(etag="0x2", sequencer="2")
    older.deliver(old)
    older.finish(older.databricks_runs()[0], outcome=Outcome.FAILED)
    older.settle()
    older.deliver(new)
    with pytest.raises(IllegalTransitionError, match="newer version"):
        ask(older, arrival=older.arrival(old).id)


def test_a_failed_run_is_replayed_whole() -> None:
    world = World(pipelines=make_pipelines(quiet=30, max_wait=30))
    for name in ("a", "b"):
        world.deliver(make_blob(f"{name}.parquet"))
    world.settle_submissions()
    world.finish(world.databricks_runs()[0], outcome=Outcome.FAILED)
    world.settle()
    (run,) = world.runs()

    _, acted = ask(world, run=run.id)
    world.settle_submissions()

    assert acted.did == ("began attempt 2",)
    assert world.runs()[0].attempt == 2
    assert {world.arrival(make_blob(f"{name}.parquet")).state for name in ("a", "b")} == {ArrivalState.ASSIGNED}


def test_an_event_grid_dead_letter_takes_the_path_of_its_delivery() -> None:
    """R74: what Event Grid gave up."""
    world = World()
    event = json.loads(base64.b64decode(blob_message(make_blob())))
    facts = {"deadLetterReason": "MaxDeliveryAttemptsExceeded", "deliveryAttempts": 30, "publishTime": "2026-03-01"}
    world.quarantine.documents["ARRIVALS/2026/3/1/12/x.json"] = [{**event, **facts}, {"broken": True}]  # type: ignore[assignment] # a list, as Event Grid writes

    with pytest.raises(DeadLetterRefusedError, match="1 of its 2 messages were refused again") as refused:
        ask(world, dead_letter="ARRIVALS/2026/3/1/12/x.json")

    assert world.arrival(make_blob()).state is ArrivalState.ASSIGNED
    assert len(refused.value.did) == len(refused.value.did_not) == 1
    assert refused.value.did_not[0].startswith("a message without an id: ")
    assert "mistake" in refused.value.did_not[0]


def test_a_dead_lettered_completion_event_ends_its_run() -> None:
    world = World()
    world.deliver(make_blob())
    (started,) = world.databricks_runs()
    world.publish_scores(started)
    event = json.loads(world.completion_of(started, Outcome.COMPLETED).to_json())
    world.quarantine.documents["COMPLETIONS/x.json"] = [{**event, "deadletterreason": "Expired", "deliveryattempts": 3}]  # type: ignore[assignment] # likewise

    ask(world, dead_letter="COMPLETIONS/x.json")

    assert world.runs()[0].state is RunState.REPORTED


def test_replaying_a_dead_letter_twice_records_one_arrival() -> None:
    world = World()
    event = json.loads(base64.b64decode(blob_message(make_blob())))
    world.quarantine.documents["A/x.json"] = [event]  # type: ignore[assignment] # likewise
    ask(world, dead_letter="A/x.json")

    _, acted = ask(world, dead_letter="https://tidegatelocal.blob.core.windows.net/deadletter/A/x.json")

    assert acted.did_not[0].startswith("did it not again")
    assert world.arrival(make_blob()).deliveries == 1


def waiting(world: World, *, every: bool = False) -> list[dict[str, object]]:
    return list_dead_letters(world.plane, prefix="", are_all_wanted=every, limit=10)


def keep_event(world: World, name: str) -> None:
    event = json.loads(base64.b64decode(blob_message(make_blob())))
    world.quarantine.documents[name] = [event]  # type: ignore[assignment] # a list, as Event Grid writes


def test_a_dead_letter_that_was_replayed_waits_for_nobody_and_says_what_came_of_it() -> None:
    world = World()
    keep_event(world, "A/event.json")
    url = quarantine_message(
        world.plane, "arrivals", "m", blob_message(make_blob("b.parquet")).encode(), datetime(2026, 3, 1, tzinfo=UTC)
    )
    quarantine_message(world.plane, "arrivals", "n", b"no event", datetime(2026, 3, 2, tzinfo=UTC))

    replays = [ask(world, dead_letter=name)[0] for name in ("A/event.json", url)]

    (left,) = waiting(world)
    event, poison, still = waiting(world, every=True)
    assert (left, left["replayed"]) == (still, None)
    for replayed, letter in zip(replays, (event, poison), strict=True):
        assert replayed.done_at is not None
        assert letter["replayed"] == {"at": to_iso(replayed.done_at), "did": list(replayed.did)}
        assert "arrival " in replayed.did[0]


def test_a_dead_letter_of_which_one_message_is_refused_goes_on_waiting() -> None:
    world = World()
    keep_event(world, "A/x.json")
    world.quarantine.documents["A/x.json"] = [*world.quarantine.documents["A/x.json"], {"broken": True}]  # type: ignore[assignment] # likewise

    with pytest.raises(DeadLetterRefusedError):
        ask(world, dead_letter="A/x.json")

    assert [letter["name"] for letter in waiting(world)] == ["A/x.json"]


def test_a_later_replay_that_was_refused_does_not_undo_an_earlier_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The messages were taken; that somebody asked once more makes no work."""
    world = World()
    keep_event(world, "A/x.json")
    ask(world, dead_letter="A/x.json")

    def refuse(*_: object) -> None:
        raise AccessRefusedError("writing the ledger", "the identity lacks a role")

    monkeypatch.setattr(replay_service, "arrive", refuse)
    with pytest.raises(DeadLetterRefusedError):
        ask(world, "once-more", dead_letter="A/x.json")

    assert waiting(world) == []


class DiesBefore(Faults):
    """Kills the process once, right before a call."""

    def __init__(self, call: str) -> None:
        self.call = call

    def before(self, call: str) -> None:
        if call == self.call:
            self.call = ""
            raise ProcessDiedError(call)


def test_a_dead_letter_whose_replay_died_before_its_mark_waits_and_is_safely_replayed_again() -> None:
    world = World(faults=DiesBefore("quarantine.mark_replayed"))
    keep_event(world, "A/x.json")

    with pytest.raises(ProcessDiedError):
        ask(world, dead_letter="A/x.json")
    (unmarked,) = waiting(world)
    world.plane = world.make_plane()
    ask(world, dead_letter="A/x.json")
    world.settle_submissions()

    assert (unmarked["name"], unmarked["replayed"]) == ("A/x.json", None)
    assert waiting(world) == []
    assert len(world.runs()) == len(world.databricks_runs()) == 1


@pytest.mark.parametrize("fault", [CrashAt, FailAt])
def test_wherever_the_replay_of_a_dead_letter_dies_a_repeat_ends_like_one_that_did_not(
    fault: type[CrashAt] | type[FailAt],
) -> None:
    def story(world: World) -> tuple[object, ...]:
        keep_event(world, "A/x.json")
        survive(world, lambda: ask(world, dead_letter="A/x.json"))
        for _ in range(5):
            work(world)
            survive(world, lambda: reconcile(world.plane))
            world.clock.advance(timedelta(seconds=20))
        letters: list[dict[str, object]] = []
        survive(world, lambda: letters.extend(waiting(world)))
        return letters, world.arrival(make_blob()).state, len(world.runs()), len(world.databricks_runs())

    (letters, _, runs, started), walked = walk_faults(story, lambda faults: World(faults=faults), fault)

    assert (letters, runs, started) == ([], 1, 1)
    assert walked > 5


def test_a_dead_letter_that_an_earlier_release_has_replayed_is_marked_by_a_repeat() -> None:
    """It marked none, and kept that of which a message was refused as done, too."""
    world = World()
    keep_event(world, "A/x.json")
    keep_event(world, "A/y.json")
    first, _ = ask(world, dead_letter="A/x.json")
    partly, _ = ask(world, dead_letter="A/y.json")
    world.quarantine.marks.clear()
    for (_, key), (values, _) in world.tables.rows["operations"].items():
        if key == partly.id:
            values["did_not"] = json.dumps(["e-2: no event"])

    unmarked = [letter["name"] for letter in waiting(world)]
    _, again = ask(world, dead_letter="A/x.json")
    ask(world, dead_letter="A/y.json")

    assert unmarked == ["A/x.json", "A/y.json"]
    assert again.did_not[0].startswith("did it not again")
    assert [letter["name"] for letter in waiting(world)] == ["A/y.json"]
    assert first.done_at is not None
    assert waiting(world, every=True)[0]["replayed"] == {"at": to_iso(first.done_at), "did": list(first.did)}


def test_a_dead_letter_stays_marked_when_the_ledger_has_forgotten_its_replay() -> None:
    """The mark is on the letter: it goes with it and not before."""
    world = World()
    url = quarantine_message(
        world.plane, "arrivals", "m", blob_message(make_blob()).encode(), datetime(2026, 3, 1, tzinfo=UTC)
    )
    ask(world, dead_letter=url)

    removed = world.ledger.forget_before(None, before=world.clock.now() + timedelta(days=1), limit=100)

    (letter,) = waiting(world, every=True)
    assert removed == 2  # the replay, and the row with the reason
    assert (waiting(world), letter["reason"], letter["replayed"] is None) == ([], None, False)


def test_a_replay_of_a_dead_letter_that_is_gone_says_when_it_was_done_under_its_key() -> None:
    """Without a key it is what the letter holds that tells one replay from another."""
    world = World()
    keep_event(world, "A/x.json")
    ask(world, "ticket-17", dead_letter="A/x.json")
    world.quarantine.documents.clear()

    _, acted = ask(world, "ticket-17", dead_letter="A/x.json")

    assert acted.did_not[0].startswith("did it not again")
    with pytest.raises(NotFoundError, match="`tidegate dead-letters` lists them"):
        ask(world, dead_letter="A/x.json")


def test_letters_that_wait_are_found_behind_many_that_do_not_in_one_request() -> None:
    world = World()
    for number in range(25):
        keep_event(world, f"A/{number:02}.json")
        ask(world, dead_letter=f"A/{number:02}.json")
    keep_event(world, "A/99.json")

    found = list_dead_letters(world.plane, prefix="A/", are_all_wanted=False, limit=2)

    assert [letter["name"] for letter in found] == ["A/99.json"]
    assert world.quarantine.calls.counts["quarantine.list"] == 1


@pytest.mark.parametrize("queue", ["arrivals", "dispatch"])
def test_a_quarantined_message_is_handled_after_its_cause_was_mended(queue: str) -> None:
    """R74: what the host gave up."""
    world = World()
    item = WorkItem(kind=WorkKind.CLOSE_BATCH, pipeline=SCORING)
    text = blob_message(make_blob()) if queue == "arrivals" else item.to_json()
    url = quarantine_message(world.plane, queue, "m-1", text.encode(), datetime(2026, 3, 1, tzinfo=UTC))

    _, acted = ask(world, dead_letter=url)

    assert acted.did_not == ()
    if queue == "arrivals":
        assert world.arrival(make_blob()).state is ArrivalState.ASSIGNED
    else:
        assert [queued for _, queued in world.queue.messages] == [item]


def test_a_message_that_is_still_wrong_is_refused_each_time_with_what_came_and_what_to_do() -> None:
    """It was answered like a replay that had done its work."""
    world = World()
    url = quarantine_message(world.plane, "arrivals", "m", b"no event", datetime(2026, 3, 1, tzinfo=UTC))

    for _ in range(2):
        with pytest.raises(DeadLetterRefusedError) as refused:
            ask(world, dead_letter=url)

        assert refused.value.did == ()
        assert re.search(r"m: .*got .*, expected .*JSON.*have its sender send it anew", str(refused.value))


def test_an_event_with_half_a_character_in_its_id_is_refused_with_its_reason() -> None:
    """The answer and the row hold text that can be written as UTF-8."""
    world = World()
    world.quarantine.documents["A/x.json"] = [{"id": "\ud800", "eventType": "x"}]  # type: ignore[assignment] # likewise

    with pytest.raises(DeadLetterRefusedError) as refused:
        ask(world, dead_letter="A/x.json")

    assert refused.value.did == ()
    assert json.dumps([str(refused.value), refused.value.did_not], ensure_ascii=False).encode()


def test_a_dead_letter_with_thousands_of_messages_is_replayed_and_noted() -> None:
    """A table's row holds a mebibyte, of two bytes a character."""
    world = World()
    event = json.loads(base64.b64decode(blob_message(make_blob("a.csv"))))
    world.quarantine.documents["A/x.json"] = [event | {"id": f"{number:0256}"} for number in range(1500)]  # type: ignore[assignment] # likewise

    _, acted = ask(world, dead_letter="A/x.json")
    _, again = ask(world, dead_letter="A/x.json")

    (row,) = (values for values, _ in world.tables.rows["operations"].values())
    assert len(acted.did) == 1500
    assert sum(len(str(value)) for value in row.values()) < 2**20 / 2
    assert again.did_not[0].startswith("did it not again")


def test_a_dead_letter_that_was_refused_is_handed_over_once_its_cause_is_mended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """R74: in the same words as before; a message that nobody took was said to be replayed."""
    world = World()
    url = quarantine_message(
        world.plane, "arrivals", "m", blob_message(make_blob()).encode(), datetime(2026, 3, 1, tzinfo=UTC)
    )

    def refuse(*_: object) -> None:
        raise AccessRefusedError("writing the ledger", "the identity lacks a role")

    with monkeypatch.context() as patch:
        patch.setattr(replay_service, "arrive", refuse)
        with pytest.raises(DeadLetterRefusedError) as refused:
            ask(world, dead_letter=url)
    _, handed = ask(world, dead_letter=url)
    _, again = ask(world, dead_letter=url)

    assert (refused.value.did, "lacks a role" in refused.value.did_not[0]) == ((), True)
    assert handed.did_not == ()
    assert world.arrival(make_blob()).state is ArrivalState.ASSIGNED
    assert again.did_not[0].startswith("did it not again")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"arrival": "x"},
        {"arrival": "0" * 64, "run": "y"},
        {"run": "nonsense"},
        {"dead_letter": "../secrets.json"},
        {"dead_letter": "a//b.json"},
        {"dead_letter": "https://other.blob.core.windows.net/deadletter/a.json"},
        {"dead_letter": "https://tidegatelocal.blob.core.windows.net/input/a.json"},
        {"dead_letter": "a.txt"},
        {"colour": "red"},
        {"arrival": "0" * 64, "at": "yesterday"},
    ],
)
def test_a_wrong_request_is_refused(body: dict[str, str]) -> None:
    with pytest.raises(InvalidRequestError):
        ask(World(), **body)


def test_what_does_not_exist_is_said() -> None:
    world = World()

    with pytest.raises(NotFoundError):
        ask(world, arrival="0" * 64)
    with pytest.raises(UnknownRunError):
        ask(world, run="flight_delay_scoring-20260101T000000Z-0123456789ab")
    with pytest.raises(NotFoundError):
        ask(world, dead_letter="none.json")
    with pytest.raises(InvalidRequestError):
        replay(world.plane, b"{", idempotency_key=None, actor=ANN)
    with pytest.raises(InvalidRequestError):
        ask(world, "a key with spaces", arrival="0" * 64)


def test_a_dead_letter_that_is_none_is_refused() -> None:
    world = World()
    world.quarantine.documents["x.json"] = {"something": "else"}

    with pytest.raises(InvalidRequestError, match="a dead letter, but"):
        ask(world, dead_letter="x.json")


def test_an_arrival_is_found_at_once_by_the_time_of_its_recording() -> None:
    world = World()
    blob = failed(world)
    arrival = world.arrival(blob)
    world.clock.advance(timedelta(days=90))

    with pytest.raises(NotFoundError, match="say with `at` when it was recorded"):
        ask(world, arrival=arrival.id)
    with pytest.raises(NotFoundError, match="none recorded then; expected in `at` exactly the `recorded_at`"):
        ask(world, arrival=arrival.id, at=(arrival.recorded_at + timedelta(seconds=1)).isoformat())
    _, acted = ask(world, arrival=arrival.id, at=arrival.recorded_at.isoformat())

    assert acted.did


class NoTopic(Faults):
    """Answers no publication while it lasts."""

    is_down = False

    def before(self, call: str) -> None:
        if self.is_down and call == "publisher.publish":
            raise PublicationError(call, "scripted")


def test_a_replay_while_the_topic_has_not_the_end_yet_goes_again_all_the_same() -> None:
    """Found by the simulation: the file was assigned to a run that had ended, and nobody came back for it."""
    topic = NoTopic()
    world = World(faults=topic)
    world.deliver(make_blob())
    topic.is_down = True
    world.end_databricks_run(world.databricks_runs()[0].id, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")
    reconcile(world.plane)

    ask(world, arrival=world.arrival(make_blob()).id)
    world.work()
    topic.is_down = False
    world.settle_submissions()
    world.finish(world.databricks_runs()[-1])
    world.settle()

    (run,) = world.runs()
    assert (run.outcome, run.attempt) == (Outcome.COMPLETED, 2)
    assert world.arrival(make_blob()).state is ArrivalState.SCORED
    assert [event.id for event in world.publisher.published] == [f"{run.id}.1.failed"]


def test_an_arrival_whose_run_has_not_ended_yet_is_not_held_again() -> None:
    """Found by the simulation: its run could still be judged anew, while another one had the file."""
    loss = LoseRunWrite()
    world = World(faults=loss, pipelines=make_pipelines(quiet=30, max_wait=60))
    files = [make_blob(name) for name in ("a.parquet", "b.parquet")]
    for blob in files:
        world.deliver(blob)
    world.clock.advance(timedelta(minutes=2))
    world.work()
    world.end_databricks_run(world.databricks_runs()[0].id, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")
    loss.is_armed = True
    reconcile(world.plane)
    assert (world.runs()[0].state, world.arrival(files[0]).state) == (RunState.SUBMITTED, ArrivalState.FAILED)

    with pytest.raises(LedgerConflictError, match="has not ended yet, or goes again; replay the arrival again"):
        ask(world, arrival=world.arrival(files[0]).id)
    world.settle()
    _, late = ask(world, arrival=world.arrival(files[0]).id)

    assert late.did == (f"held it for {SCORING}, whose next batch takes it",)


def test_a_replay_whose_claim_died_is_seen_to_by_whoever_looks_next() -> None:
    """Another file joins the batch meanwhile, so the look comes from another run than the one that was claimed for."""
    death = CrashAt(at=-1)
    world = World(pipelines=make_pipelines(quiet=10, max_wait=10), faults=death)
    world.deliver(make_blob())
    world.clock.advance(timedelta(seconds=11))
    world.settle_submissions()
    world.end_databricks_run(world.databricks_runs()[0].id, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")
    world.settle()
    ask(world, arrival=world.arrival(make_blob()).id)
    item = world.queue.take()
    assert item is not None
    world.clock.advance(timedelta(seconds=11))
    death.at = death.hooks + 1  # the claim is the first thing that is written

    with pytest.raises(ProcessDiedError):
        dispatch(world.plane, item.to_json())
    assert world.arrival(make_blob()).state is ArrivalState.ASSIGNED
    world.plane = world.make_plane()
    world.deliver(make_blob("another.parquet"))
    world.clock.advance(timedelta(seconds=11))
    world.settle_submissions()
    for run in world.databricks_runs()[1:]:
        world.finish(run)
    world.settle()

    assert {world.arrival(make_blob(name)).state for name in ("2013-07.parquet", "another.parquet")} == {
        ArrivalState.SCORED
    }


def test_a_late_look_at_the_ended_run_does_not_give_up_what_was_replayed_and_claimed() -> None:
    """A message about an attempt that is over may come at any time, also between the claim and the next attempt."""

    class LateLook(Faults):
        is_armed = False

        def before(self, call: str) -> None:
            if self.is_armed and call == "manifests.write":
                self.is_armed = False
                advance_run(world.make_plane(), read_run(world.ledger, world.runs()[0].id))

    faults = LateLook()
    world = World(faults=faults)
    blob = failed(world)
    retry_run(world.plane, world.runs()[0].id, ANN)
    world.settle_submissions()
    world.finish(world.databricks_runs()[-1], outcome=Outcome.FAILED)
    world.settle()

    ask(world, arrival=world.arrival(blob).id)
    faults.is_armed = True
    world.settle_submissions()

    assert not faults.is_armed
    (run,) = world.runs()
    assert (run.attempt, run.state) == (3, RunState.SUBMITTED)


def overwrite(world: World, name: str, path: str) -> None:
    """Have a person put another letter under this name, which has no mark then."""
    event = json.loads(base64.b64decode(blob_message(make_blob(path))))
    world.quarantine.put(name, [event], at=world.clock.now())


def test_a_letter_that_is_overwritten_while_it_is_replayed_is_replayed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its messages would be in no list and nowhere else."""
    world = World()
    keep_event(world, "A/x.json")

    def overwrite_meanwhile(plane: ControlPlane, body: str) -> Arrived:
        monkeypatch.setattr(replay_service, "arrive", arrive)
        overwrite(world, "A/x.json", "other.parquet")
        return arrive(plane, body)

    monkeypatch.setattr(replay_service, "arrive", overwrite_meanwhile)
    with pytest.raises(StorageUnavailableError, match="changed"):
        ask(world, dead_letter="A/x.json")
    (left,) = waiting(world)
    ask(world, dead_letter="A/x.json")

    assert left["replayed"] is None
    assert world.arrival(make_blob("other.parquet")).state is ArrivalState.ASSIGNED
    assert waiting(world) == []


def test_a_letter_that_was_put_there_after_the_replay_is_replayed_in_the_same_words() -> None:
    """Under the same name it is another letter; it needed another key."""
    world = World()
    keep_event(world, "A/x.json")
    first, _ = ask(world, dead_letter="A/x.json")
    world.clock.advance(timedelta(minutes=1))
    overwrite(world, "A/x.json", "other.parquet")
    (left,) = waiting(world)

    other, acted = ask(world, dead_letter="A/x.json")
    again, repeated = ask(world, dead_letter="A/x.json")

    assert left["name"] == "A/x.json"
    assert other.id != first.id
    assert acted.did_not == ()
    assert world.arrival(make_blob("other.parquet")).state is ArrivalState.ASSIGNED
    assert (again.id, repeated.did) == (other.id, ())
    assert waiting(world) == []


def test_a_letter_that_was_put_there_anew_with_the_same_content_is_the_same_replay() -> None:
    """Its messages were taken: a repeat has it say so, and does nothing twice."""
    world = World()
    keep_event(world, "A/x.json")
    first, _ = ask(world, dead_letter="A/x.json")
    world.clock.advance(timedelta(minutes=1))
    overwrite(world, "A/x.json", "2013-07.parquet")
    (left,) = waiting(world)

    again, acted = ask(world, dead_letter="A/x.json")

    assert left["name"] == "A/x.json"
    assert again.id == first.id
    assert acted.did_not[0].startswith("did it not again")
    assert world.arrival(make_blob()).deliveries == 1
    assert waiting(world) == []


def test_a_key_names_one_replay_of_a_letter_whatever_is_there_later() -> None:
    """And what was put there after it is not said to be replayed."""
    world = World()
    keep_event(world, "A/x.json")
    ask(world, "ticket-17", dead_letter="A/x.json")
    world.clock.advance(timedelta(minutes=1))
    overwrite(world, "A/x.json", "other.parquet")

    _, acted = ask(world, "ticket-17", dead_letter="A/x.json")

    assert acted.did_not[0].startswith("did it not again")
    assert [letter["name"] for letter in waiting(world)] == ["A/x.json"]

"""Tests that a dead letter which needs nobody any more can say so, once and with a reason, and is still there."""

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest

from functions.core.access import Actor
from functions.core.errors import DeadLetterRefusedError, NotFoundError, StorageUnavailableError
from functions.core.model import ArrivalState
from functions.services.acted import Acted
from functions.services.dead_letters import list_dead_letters
from functions.services.dismiss import dismiss
from functions.services.quarantine import quarantine_message
from functions.services.replay import replay
from tests.support.control_plane import World, blob_message, make_blob
from tests.support.fault_walk import CrashAt, FailAt, survive, walk_faults
from tests.support.in_memory import Faults

ANN = Actor(name="ann@contoso.com")
BOB = Actor(name="bob@contoso.com")
MARCH = datetime(2026, 3, 1, tzinfo=UTC)


def say(world: World, name: str, reason: str, actor: Actor = ANN) -> Acted:
    return dismiss(world.plane, json.dumps({"dead_letter": name, "reason": reason}).encode(), actor)[1]


def send_again(world: World, name: str) -> Acted:
    body = json.dumps({"dead_letter": name}).encode()
    return replay(world.plane, body, idempotency_key=None, actor=ANN)[1]


def listed(world: World, *, every: bool = False) -> list[dict[str, object]]:
    return list_dead_letters(world.plane, prefix="", are_all_wanted=every, limit=10)


def unreadable(world: World) -> str:
    """Return the name of a letter that every replay refuses."""
    quarantine_message(world.plane, "arrivals", "m", b"no event", MARCH)
    (name,) = world.quarantine.documents
    return name


def readable(world: World, name: str) -> str:
    event = json.loads(base64.b64decode(blob_message(make_blob())))
    world.quarantine.put(name, [event], at=world.clock.now())
    return name


def test_a_letter_that_nobody_can_read_is_listed_on_demand_only_once_it_is_dismissed() -> None:
    """It was listed for ever."""
    world = World()
    name = unreadable(world)
    before = dict(world.quarantine.documents)

    acted = say(world, name, "a probe of ours")

    (letter,) = listed(world, every=True)
    assert acted == Acted(did=("dismissed it: it waits for nobody any more",))
    assert listed(world) == []
    assert letter["dismissed"] == {
        "at": "2026-03-01T12:00:00.000000Z",
        "by": "ann@contoso.com",
        "reason": "a probe of ours",
    }
    assert letter["replayed"] is None
    assert world.quarantine.documents == before


def test_a_letter_that_waits_says_that_nobody_dismissed_it() -> None:
    world = World()
    unreadable(world)

    (letter,) = listed(world)

    assert letter["dismissed"] is None


def test_a_second_dismissal_says_when_and_why_the_first_was() -> None:
    world = World()
    name = unreadable(world)
    say(world, name, "a probe of ours")
    world.clock.advance(timedelta(hours=1))

    acted = say(world, name, "not mine", BOB)

    (letter,) = listed(world, every=True)
    first = "dismissed by ann@contoso.com at 2026-03-01 12:00:00 UTC: a probe of ours"
    assert acted == Acted(did_not=(f"dismissed it not again: {first}",))
    assert "ann" in str(letter["dismissed"])


def test_a_dismissed_letter_can_be_replayed_and_then_says_both() -> None:
    world = World()
    name = readable(world, "A/x.json")
    say(world, name, "not needed")

    acted = send_again(world, name)

    (letter,) = listed(world, every=True)
    assert world.arrival(make_blob()).state is ArrivalState.ASSIGNED
    assert acted.did_not == ()
    assert None not in (letter["replayed"], letter["dismissed"])


def test_a_dismissed_letter_that_is_refused_again_goes_on_waiting_for_nobody() -> None:
    world = World()
    name = unreadable(world)
    say(world, name, "a probe of ours")

    with pytest.raises(DeadLetterRefusedError):
        send_again(world, name)

    assert listed(world) == []


def test_a_letter_that_was_replayed_need_not_be_dismissed() -> None:
    world = World()
    name = readable(world, "A/x.json")
    send_again(world, name)

    acted = say(world, name, "done")

    (letter,) = listed(world, every=True)
    assert acted == Acted(
        did_not=("dismissed nothing: it was replayed at 2026-03-01 12:00:00 UTC, and waits for nobody",)
    )
    assert letter["dismissed"] is None


def test_a_letter_that_is_written_over_a_dismissed_one_waits() -> None:
    world = World()
    name = readable(world, "A/x.json")
    say(world, name, "not needed")

    readable(world, "A/x.json")

    assert [letter["name"] for letter in listed(world)] == [name]


@pytest.mark.parametrize("document", [{"something": "else"}, [], "text"])
def test_what_is_no_dead_letter_but_listed_with_them_can_be_dismissed(document: object) -> None:
    world = World()
    world.quarantine.put("A/x.json", document, at=world.clock.now())

    say(world, "A/x.json", "nobody wants it")

    assert listed(world) == []
    assert world.quarantine.documents == {"A/x.json": document}


def test_what_does_not_exist_is_not_dismissed() -> None:
    with pytest.raises(NotFoundError, match="`tidegate dead-letters` lists them"):
        say(World(), "A/none.json", "nobody wants it")


class OverwrittenMeanwhile(Faults):
    """Has another letter put over one right before that is dismissed."""

    world: World | None = None

    def before(self, call: str) -> None:
        if call == "quarantine.dismiss" and self.world is not None:
            readable(self.world, "A/x.json")


def test_a_letter_that_is_overwritten_while_it_is_dismissed_waits() -> None:
    """Nobody has looked at the new one."""
    meanwhile = OverwrittenMeanwhile()
    world = World(faults=meanwhile)
    world.quarantine.put("A/x.json", [{"id": "old"}], at=world.clock.now())
    meanwhile.world = world

    with pytest.raises(StorageUnavailableError, match="changed since it was read"):
        say(world, "A/x.json", "old news")

    assert [letter["name"] for letter in listed(world)] == ["A/x.json"]


@pytest.mark.parametrize("fault", [CrashAt, FailAt])
def test_wherever_a_dismissal_dies_a_repeat_ends_like_one_that_did_not(fault: type[CrashAt] | type[FailAt]) -> None:
    def story(world: World) -> tuple[object, ...]:
        world.quarantine.put("A/x.json", [{"id": "e-1"}], at=world.clock.now())
        survive(world, lambda: say(world, "A/x.json", "a probe"))
        waiting: list[dict[str, object]] = []
        every: list[dict[str, object]] = []
        survive(world, lambda: waiting.extend(listed(world)))
        survive(world, lambda: every.extend(listed(world, every=True)))
        return waiting, [letter["dismissed"] is None for letter in every[:1]]

    outcome, walked = walk_faults(story, lambda faults: World(faults=faults), fault)

    assert outcome == ([], [False])
    assert walked >= 1

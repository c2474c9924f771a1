"""Takes what was ignored, failed or given up through the same path as the first time, on a person's word.

Each replay has an id, from the caller's Idempotency-Key or else from the target as it is now, as what a dead letter
holds. It is written down
before anything is done and again with what came of it, and the note that it leaves in an entry's history carries the
id: so a repeat under the same id, also after a crash half-way, does nothing twice.
"""

from dataclasses import replace

from functions.core.access import Actor
from functions.core.dead_letters import GivenUp, MessageKind, Replayed
from functions.core.errors import (
    DeadLetterRefusedError,
    InvalidRequestError,
    PermanentError,
    Problem,
)
from functions.core.ledger import Arrival
from functions.core.model import ArrivalId, RunId, RunState
from functions.core.replays import (
    Replay,
    ReplayKind,
    ReplayTarget,
    is_replayed_by,
    parse_replay_request,
    replay_id_of,
)
from functions.core.requests import parse_body
from functions.core.work import WorkItem
from functions.ports import Entry
from functions.services.acted import Acted
from functions.services.arrive import arrive
from functions.services.changes import read_run
from functions.services.complete import complete
from functions.services.dead_letters import OpenedLetter, open_dead_letter
from functions.services.listing import find_arrival
from functions.services.plane import ControlPlane
from functions.services.replay_arrival import replay_arrival
from functions.services.retry import retry_run

__all__ = ["replay"]


def replay(plane: ControlPlane, body: bytes, *, idempotency_key: str | None, actor: Actor) -> tuple[Replay, Acted]:
    """Replay what a body names, and return the replay with what it did and did not do.

    Raises:
        InvalidRequestError: The body is wrong, or the key stands for another target.
        NotFoundError: There is no such arrival or dead letter; of a letter also if it is gone that was replayed before,
            unless a key says which replay it was.
        UnknownRunError: There is no such run.
        IllegalTransitionError: Replaying it could do its work twice; the message says what to do instead.
        DeadLetterRefusedError: Not every message of the dead letter was taken; the error has what was and what not.
    """
    target = parse_replay_request(parse_body(body), idempotency_key=idempotency_key, account=plane.account)
    letter = None  # of which nothing needs to be known where a key says which replay it is
    if target.kind is ReplayKind.DEAD_LETTER and idempotency_key is None:
        letter = open_dead_letter(plane, target.name)
    wanted = Replay(
        id=replay_id_of(idempotency_key, *_state_of(plane, target, letter)),
        target=str(target),
        actor=str(actor),
        requested_at=plane.clock.now(),
    )
    first = plane.operations.claim_replay(wanted)
    if first.target != wanted.target:
        expected = f"the same target as the first under this key, {first.target}, or another key"
        raise InvalidRequestError([Problem("Idempotency-Key", repr(idempotency_key), expected)])
    if first.done_at is not None:
        # A release that marked nothing may have done it, or the same content was put there again.
        _mark(plane, target, first, version=None if letter is None else letter.version)
        done = f"did it not again: replay {first.id[:16]} did it at {first.done_at:%Y-%m-%d %H:%M:%S} UTC"
        return first, Acted(did_not=(done, *first.did_not))
    with plane.telemetry.span("replay", replay_id=first.id, target=first.target, actor=str(actor)) as span:
        acted, version = _act(plane, target, first, letter)
        span.set(outcome="; ".join((*acted.did, *acted.did_not))[:500])
    if target.kind is ReplayKind.DEAD_LETTER and acted.did_not:
        # It is not done: whoever mends what refused a message asks again, in the same words.
        raise DeadLetterRefusedError(target.name, acted.did, acted.did_not)
    finished = replace(first, done_at=plane.clock.now(), did=acted.did, did_not=acted.did_not)
    # A crash between what was done and either line leaves a replay that is not done: a repeat does it all again.
    _mark(plane, target, finished, version=version)
    plane.operations.finish_replay(finished)
    return finished, acted


def _state_of(plane: ControlPlane, target: ReplayTarget, letter: OpenedLetter | None) -> tuple[str, ...]:
    """Return what makes this replay another one than an earlier one of the same target."""
    match target.kind:
        case ReplayKind.ARRIVAL:
            arrival = _arrival(plane, target).value
            # What is still ignored may be wanted by the configuration of another day.
            # A history keeps so many changes only: of a long one the number stays, but not the time of the last one.
            changed = (str(len(arrival.history)), *(change.at.isoformat() for change in arrival.history[-1:]))
            return (target.name, arrival.state.value, *changed, plane.pipelines.version)
        case ReplayKind.RUN:
            run = read_run(plane.ledger, RunId(target.name)).value
            return target.name, str(run.attempt), run.state.value
        case ReplayKind.DEAD_LETTER:
            # Not the ETag, which the mark of the replay changes.
            return target.name, "" if letter is None else letter.sha256, plane.pipelines.version


def _arrival(plane: ControlPlane, target: ReplayTarget) -> Entry[Arrival]:
    arrival_id, now = ArrivalId(target.name), plane.clock.now()
    return find_arrival(plane.ledger, plane.pipelines, arrival_id, at=target.at, now=now)


def _act(
    plane: ControlPlane, target: ReplayTarget, replaying: Replay, letter: OpenedLetter | None
) -> tuple[Acted, str | None]:
    """Return what was done and what not, and of which version of a dead letter."""
    match target.kind:
        case ReplayKind.ARRIVAL:
            return replay_arrival(plane, _arrival(plane, target), replaying), None
        case ReplayKind.RUN:
            return _replay_run(plane, RunId(target.name), replaying), None
        case ReplayKind.DEAD_LETTER:
            return _replay_dead_letter(plane, letter or open_dead_letter(plane, target.name))


def _replay_run(plane: ControlPlane, run_id: RunId, replaying: Replay) -> Acted:
    """Begin the run's next attempt, with all its files; an open run is only seen to be moving."""
    run = read_run(plane.ledger, run_id).value
    if run.state is RunState.ENDED and is_replayed_by(run.history, replaying):
        return Acted(did_not=(f"began no attempt: this replay did, and attempt {run.attempt} has ended since",))
    return retry_run(plane, run_id, Actor(name=replaying.actor), note=replaying.note)


def _replay_dead_letter(plane: ControlPlane, letter: OpenedLetter) -> tuple[Acted, str]:
    did: list[str] = []
    did_not: list[str] = []
    for given_up in letter.messages:
        label = given_up.label or "a message without an id"
        try:
            did.append(f"{label}: {_hand_over(plane, given_up)}")
        except PermanentError as error:
            did_not.append(f"{label}: {error}")
    return Acted(did=tuple(did), did_not=tuple(did_not)), letter.version


def _mark(plane: ControlPlane, target: ReplayTarget, done: Replay, *, version: str | None) -> None:
    """Have the dead letter say what came of its replay; nothing else is marked: an entry has its history.

    A letter that was overwritten meanwhile is another one, whose messages nobody has taken: it is not marked.
    An earlier release took a replay for done of which messages were refused; that one marks nothing.
    """
    if target.kind is ReplayKind.DEAD_LETTER and done.done_at is not None and not done.did_not:
        replayed = Replayed(at=done.done_at, did=done.did)
        plane.quarantine.mark_replayed(target.name, replayed, version=version)


def _hand_over(plane: ControlPlane, given_up: GivenUp) -> str:
    """Give a message to what would have handled it; each of them is safe to repeat by itself."""
    match given_up.kind:
        case MessageKind.ARRIVALS:
            arrived = arrive(plane, given_up.message)
            return f"arrival {arrived.arrival.id} is {arrived.arrival.state.value}: {arrived.what}"
        case MessageKind.COMPLETIONS:
            return complete(plane, given_up.message)
        case MessageKind.DISPATCH:
            item = WorkItem.from_json(given_up.message)
            plane.queue.enqueue(replace(item, tries=0))
            return f"handed {item.kind.value} of {item.run_id or item.pipeline} to the dispatcher"

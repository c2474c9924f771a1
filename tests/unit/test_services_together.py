"""Threads that change the same thing at a time are served by one of them, and each gets its own answer."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from functions.core.errors import LedgerUnavailableError
from functions.core.model import RunId
from functions.core.reasons import HoldReason
from functions.core.turnstile import Refusal, Turnstile
from functions.services.plane import TurnstileChange
from functions.services.together import Together
from functions.services.turnstile import candidate_of, change_turnstile
from tests.support.control_plane import SCORING, TRAINING, World, make_pipelines
from tests.support.in_memory import Faults

_DEADLINE_S = 30.0


class Slow:
    """Adds numbers up; the first time it waits until it may."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.is_reached = threading.Event()
        self.may_go_on = threading.Event()
        self.fails_with: BaseException | None = None

    def __call__(self, items: Sequence[int]) -> Sequence[int | BaseException]:
        self.groups.append(list(items))
        if len(self.groups) == 1:
            self.is_reached.set()
            assert self.may_go_on.wait(_DEADLINE_S)
        elif self.fails_with is not None:
            error, self.fails_with = self.fails_with, None
            raise error
        return [ValueError("odd") if item % 2 else item * 10 for item in items]


def test_what_is_done_together_may_not_ask_for_more_of_it() -> None:
    """The thread would wait for itself, and all others with it."""
    together = Together[int, int]()

    def nested(items: Sequence[int]) -> Sequence[int | BaseException]:
        return [together.do(item + 1, nested) for item in items]

    with pytest.raises(RuntimeError, match="not re-entrant"):
        together.do(1, nested)

    assert together.do(2, list) == 2


@contextmanager
def company(together: "Together[int, int]", slow: Slow, items: Sequence[int]) -> Iterator[list[Future[int]]]:
    """Have these wait behind one that is under way; they go on when the block ends."""
    with ThreadPoolExecutor(len(items) + 1) as pool:
        pool.submit(together.do, 0, slow)
        assert slow.is_reached.wait(_DEADLINE_S)
        futures: list[Future[int]] = []
        for item in items:
            futures.append(pool.submit(together.do, item, slow))
            until(lambda: together.waiting == len(futures))
        yield futures
        slow.may_go_on.set()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_who_is_alone_waits_for_nobody() -> None:
    together, slow = Together[int, int](), Slow()
    slow.may_go_on.set()

    assert (together.do(2, slow), together.do(4, slow)) == (20, 40)
    assert slow.groups == [[2], [4]]


def test_who_comes_meanwhile_is_done_with_the_others() -> None:
    together, slow = Together[int, int](), Slow()

    with company(together, slow, [2, 4, 6, 8]) as futures:
        pass

    assert [future.result() for future in futures] == [20, 40, 60, 80]
    assert slow.groups == [[0], [2, 4, 6, 8]]


def test_an_error_of_one_is_nobody_elses() -> None:
    together, slow = Together[int, int](), Slow()

    with company(together, slow, [2, 3, 4]) as futures:
        pass

    assert [type(future.exception()) for future in futures] == [type(None), ValueError, type(None)]


def test_an_error_of_the_write_is_everyones_and_the_next_go_on() -> None:
    together, slow = Together[int, int](), Slow()
    slow.fails_with = LedgerUnavailableError("the turnstile", "scripted")

    with company(together, slow, [2, 4]) as futures:
        pass

    assert [type(future.exception()) for future in futures] == [LedgerUnavailableError] * 2
    assert together.do(6, slow) == 60


def test_a_thread_that_is_ended_leaves_nobody_waiting() -> None:
    together, slow = Together[int, int](), Slow()
    slow.fails_with = KeyboardInterrupt()

    with company(together, slow, [2, 4]) as futures:
        pass

    assert {type(future.exception()) for future in futures} == {KeyboardInterrupt, LedgerUnavailableError}
    assert together.do(6, slow) == 60


class Gate(Faults):
    """Stops the second write of the turnstile, the first of the test, until it is opened."""

    def __init__(self) -> None:
        self.is_closed = False
        self.is_reached = threading.Event()
        self.opened = threading.Event()

    def before(self, call: str) -> None:
        if self.is_closed and call == "tables.marks.replace":
            self.is_closed = False
            self.is_reached.set()
            assert self.opened.wait(_DEADLINE_S)


def run_of(number: int) -> RunId:
    return RunId(f"flight_delay_scoring-20260301T110000Z-{number:012x}")


def admission(world: World, number: int) -> TurnstileChange:
    """Return the change that admits a run, a second after the one with the number before."""
    candidate, now = candidate_of(world.plane, SCORING), world.clock.now() + timedelta(seconds=number)

    def admit(turnstile: Turnstile) -> Turnstile | Refusal:
        return turnstile.admit(candidate, world.pipelines.limits, now, run_id=run_of(number), attempt=1)

    return admit


def test_seats_that_are_asked_for_together_are_written_together_and_never_too_many() -> None:
    """Ten threads, three seats: the first is being written while nine come, and those need one write more."""
    gate, together = Gate(), Together[TurnstileChange, Turnstile | Refusal]()
    world = World(faults=gate, pipelines=make_pipelines(max_active=3))
    world.plane = replace(world.plane, changes=together)
    change_turnstile(world.plane, lambda turnstile: turnstile.queue_up(TRAINING, world.clock.now()))
    gate.is_closed = True
    written = world.tables.calls.counts["tables.marks.replace"]

    with ThreadPoolExecutor(10) as pool:
        futures = [pool.submit(change_turnstile, world.plane, admission(world, 0))]
        assert gate.is_reached.wait(_DEADLINE_S)
        for index in range(1, 10):
            futures.append(pool.submit(change_turnstile, world.plane, admission(world, index)))
            until(lambda: together.waiting == len(futures) - 1)
        gate.opened.set()
    outcomes = [future.result() for future in futures]

    refused = [outcome.reason for outcome in outcomes if isinstance(outcome, Refusal)]
    assert refused == [HoldReason.AT_CAPACITY] * 7
    assert [seat.run_id for seat in world.turnstile().seats] == [run_of(0), run_of(1), run_of(2)]
    assert world.tables.calls.counts["tables.marks.replace"] - written == 2


def test_what_another_process_changed_meanwhile_is_kept() -> None:
    world = World(pipelines=make_pipelines(max_active=3))
    world.plane = replace(world.plane, changes=Together[TurnstileChange, Turnstile | Refusal]())
    change_turnstile(world.plane, admission(world, 0))
    change_turnstile(world.make_plane(), admission(world, 1))

    change_turnstile(world.plane, admission(world, 2))

    assert [seat.run_id for seat in world.turnstile().seats] == [run_of(0), run_of(1), run_of(2)]

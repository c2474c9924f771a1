"""Those who are turned away because starts are spread come back one after another."""

from datetime import timedelta
from itertools import pairwise

from functions.services.plane import ControlPlane
from functions.services.turnstile import refusal_of
from tests.support.control_plane import SCORING, World, make_blob, make_pipelines

SPREAD = make_pipelines(limits="max_in_flight = 50, max_starts_per_second = 5")


def used_up() -> World:
    """Return a world in which the starts of this moment, and of a burst, are used up."""
    world = World(pipelines=SPREAD)
    while refusal_of(world.plane, SCORING) is None:
        world.deliver(make_blob(f"{len(world.runs())}.parquet"))
    return world


def waits(world: World, plane: ControlPlane, count: int) -> list[float]:
    """Return for how long each of so many that are turned away at once is told to wait."""
    refusals = [refusal_of(plane, SCORING) for _ in range(count)]
    return [round(refusal.wait_s, 3) for refusal in refusals if refusal is not None]


def test_those_who_wait_for_spread_starts_come_back_one_after_another() -> None:
    """Else all would come when the next start is due, and all but one of them in vain."""
    world = used_up()

    told = waits(world, world.plane, 20)

    gaps = {round(later - earlier, 3) for earlier, later in pairwise(told)}
    assert (len(told), gaps) == (20, {0.2})


def test_a_line_that_is_too_long_is_begun_anew_and_one_that_has_passed_is_forgotten() -> None:
    world = used_up()

    long = waits(world, world.plane, 400)
    world.clock.advance(timedelta(minutes=10))
    while refusal_of(world.plane, SCORING) is None:
        world.deliver(make_blob(f"{len(world.runs())}.parquet"))
    (later,) = waits(world, world.plane, 1)

    assert max(long) <= 30
    assert later <= 0.4


def test_a_clock_that_jumps_back_sends_nobody_to_the_end_of_a_line_that_is_not_there() -> None:
    world = used_up()
    waits(world, world.plane, 100)

    world.clock.advance(timedelta(hours=-1))

    assert all(wait <= 30 for wait in waits(world, world.plane, 10))

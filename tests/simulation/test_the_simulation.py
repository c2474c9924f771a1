"""Tests the simulation itself: the same seed is the same story anywhere, faults do happen, stories become short."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.actions import Action, Kind, Schedule
from tests.simulation.campaign import Campaign, run_many, tell_story
from tests.simulation.generating import schedule_of, without_faults
from tests.simulation.notebooks import Fate
from tests.simulation.shrinking import shortest

ROOT = Path(__file__).parents[2]
SEEDS = range(60)
DIGEST = (
    "from tests.simulation.campaign import run_many; print(run_many({seeds!r}, processes=1, on_progress=id).digest)"
)


def campaign_of(seeds: range, *, processes: int = 1, defect: str | None = None) -> Campaign:
    return run_many(seeds, processes=processes, defect=defect, on_progress=lambda _: None)


def test_the_same_seed_goes_the_same_way_whatever_the_hash_seed() -> None:
    """Every call of every worker, in its order: no set, no clock and no address of an object decides anything."""
    digests = {
        subprocess.run(
            [sys.executable, "-c", DIGEST.format(seeds=SEEDS)],
            check=True,
            capture_output=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        ).stdout
        for hash_seed in ("0", "1", "4711")
    }

    assert digests == {f"{campaign_of(SEEDS).digest}\n".encode()}


def test_many_processes_see_what_one_sees() -> None:
    one, two = campaign_of(SEEDS), campaign_of(SEEDS, processes=2)

    assert (two.digest, two.schedules, two.counts) == (one.digest, one.schedules, one.counts)


def test_everything_that_can_go_wrong_does() -> None:
    """Otherwise a promise that was never put to the test would pass for kept."""
    campaign = campaign_of(range(400))

    wanted = {kind.value for kind in Kind} - {Kind.ARM.value}
    wanted |= {"die before", "die after", "lose before", "lose after", "throttled", "outage", "poisoned"}
    wanted |= {f"Databricks run {fate.value}" for fate in Fate}
    assert {name for name in wanted if campaign.counts[name] < 3} == set()
    assert campaign.violations == {}


def test_a_schedule_without_faults_has_the_same_files() -> None:
    schedule = schedule_of(3)

    calm = without_faults(schedule)

    uploads = [action[:3] for action in schedule.actions if action.kind is Kind.UPLOAD]
    assert [action[:3] for action in calm.actions if action.kind is Kind.UPLOAD] == uploads
    assert not any(action.kind in {Kind.DIE, Kind.ARM, Kind.OUTAGE} for action in calm.actions)


def test_a_schedule_shrinks_to_what_matters() -> None:
    """Whatever surrounds them, two actions that break something together are all that is left."""
    noise = [Action(Kind.PASS, number) for number in range(40)]
    actions = (*noise[:17], Action(Kind.DIE, 1, 2, 3), *noise[17:30], Action(Kind.JOB, 4, 5, 6), *noise[30:])

    def breaks(schedule: Schedule) -> bool:
        kinds = [action.kind for action in schedule.actions]
        return Kind.JOB in kinds and Kind.DIE in kinds[: kinds.index(Kind.JOB)]

    short = shortest(Schedule(0, (), actions, is_calm=True), breaks)

    assert short.actions == (Action(Kind.DIE), Action(Kind.JOB))


def test_a_broken_promise_is_told_so_that_a_person_can_repeat_it() -> None:
    defect = "forget arrivals at the end"
    seed = min(campaign_of(range(40), defect=defect).violations)

    story = tell_story(seed, defect=defect)

    assert story is not None
    assert "an arrival is still assigned" in story.violation.message
    assert len(story.schedule.actions) <= 4
    assert story.history
    assert any("is uploaded" in line for line in story.lines)


@pytest.mark.parametrize("seed", [0, 245])
def test_a_seed_that_keeps_every_promise_has_no_story(seed: int) -> None:
    assert tell_story(seed) is None

"""Runs many schedules on every core, and tells the story of one that broke a promise."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import batched, islice
from multiprocessing import get_context
from typing import Final

from tests.simulation.actions import Schedule
from tests.simulation.defects import broken_by
from tests.simulation.generating import schedule_of
from tests.simulation.remembering import remembering
from tests.simulation.running import examine
from tests.simulation.shrinking import shortest
from tests.simulation.violations import Violation

__all__ = ["Campaign", "Story", "run_many", "tell_story"]

_CHUNK: Final = 20
_MOST_VIOLATIONS: Final = 20  # then it is plain that something is wrong


@dataclass(kw_only=True)
class Campaign:
    """What many schedules have shown."""

    schedules: int = 0
    counts: Counter[str] = field(default_factory=Counter[str])
    violations: dict[int, str] = field(default_factory=dict[int, str])  # by seed
    digest: int = 0  # of all schedules, whatever their order


@dataclass(frozen=True, kw_only=True)
class Story:
    """One broken promise, made short."""

    schedule: Schedule
    violation: Violation
    lines: tuple[str, ...]  # everything that happened
    history: tuple[str, ...]  # what happened to the entity that broke it


def run_many(
    seeds: Sequence[int], *, processes: int, defect: str | None = None, on_progress: Callable[[Campaign], None]
) -> Campaign:
    """Return what the schedules of these seeds show; `on_progress` is called after every few of them."""
    campaign = Campaign()
    chunks = batched(seeds, _CHUNK, strict=False)
    if processes == 1:
        for chunk in chunks:
            _add(campaign, _run_chunk(chunk, defect))
            on_progress(campaign)
            if len(campaign.violations) >= _MOST_VIOLATIONS:
                break
        return campaign
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        under_way: set[Future[Campaign]] = set()
        while True:
            if len(campaign.violations) < _MOST_VIOLATIONS:
                more = islice(chunks, 2 * processes - len(under_way))
                under_way |= {pool.submit(_run_chunk, chunk, defect) for chunk in more}
            if not under_way:
                return campaign
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                _add(campaign, future.result())
            on_progress(campaign)


def tell_story(seed: int, *, defect: str | None = None) -> Story | None:
    """Return the shortest story found in which the seed's promise is broken, or None if it breaks none."""
    with _ready(defect):
        schedule = schedule_of(seed)
        found = examine(schedule).violation
        if found is None:
            return None

        def breaks(other: Schedule) -> bool:
            violation = examine(other).violation
            return violation is not None and violation.invariant == found.invariant

        short = shortest(schedule, breaks)
        lines: list[str] = []
        violation = examine(short, story=lines).violation
    if violation is None:
        raise AssertionError(f"seed {seed} went another way when it was repeated: the simulation is not deterministic")
    history = tuple(line for line in lines if any(name in line for name in _names_of(violation)))
    return Story(schedule=short, violation=violation, lines=tuple(lines), history=history)


def _names_of(violation: Violation) -> Iterator[str]:
    yield violation.entity[:12] if len(violation.entity) == _ARRIVAL_ID else violation.entity


_ARRIVAL_ID: Final = 64  # characters; stories show the first twelve


def _run_chunk(seeds: Sequence[int], defect: str | None) -> Campaign:
    chunk = Campaign()
    with _ready(defect):
        for seed in seeds:
            result = examine(schedule_of(seed))
            chunk.schedules += 1
            chunk.counts += result.counts
            chunk.digest ^= result.digest * (2 * seed + 1) % 2**64
            if result.violation is not None:
                chunk.violations[seed] = str(result.violation)
    return chunk


def _ready(defect: str | None) -> ExitStack:
    with ExitStack() as stack:
        stack.enter_context(remembering())
        stack.enter_context(broken_by(defect))
        return stack.pop_all()


def _add(campaign: Campaign, chunk: Campaign) -> None:
    campaign.schedules += chunk.schedules
    campaign.counts += chunk.counts
    campaign.violations |= chunk.violations
    campaign.digest ^= chunk.digest

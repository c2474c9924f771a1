"""Plays as many inputs as are asked for on every processor, and says how fast and what was found."""

import gc
import itertools
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from random import Random
from typing import Final

from tests.fuzz.app import captured_log, loaded_app
from tests.fuzz.case import Case
from tests.fuzz.examples import examples_of
from tests.fuzz.judging import Finding, judge, minimise
from tests.fuzz.mutation import mutate

__all__ = ["BLOCK", "Report", "cases_of_block", "run"]

BLOCK: Final = 40  # inputs that meet one control plane, one after the other
_BLOCKS_A_TASK: Final = 50
_WEIGHT_WITHOUT_BODY: Final = 0.1
_MOST_OF_A_KIND: Final = 3
_MOST_KINDS: Final = 20


@dataclass(slots=True)
class Report:
    """How far it is."""

    wanted: int
    seed: int
    began: float = field(default_factory=time.monotonic)
    played: int = 0
    by_target: Counter[str] = field(default_factory=Counter[str])
    findings: list[tuple[int, Finding]] = field(default_factory=list[tuple[int, Finding]])
    kinds: Counter[str] = field(default_factory=Counter[str])

    @property
    def rate(self) -> float:
        """Inputs a second, over all processes."""
        return self.played / max(time.monotonic() - self.began, 1e-9)

    def add(self, result: "_TaskResult") -> None:
        """Count what a task has done."""
        self.played += result.played
        self.by_target += result.by_target
        for block, finding in result.findings:
            self.kinds[finding.kind] += 1
            if self.kinds[finding.kind] <= _MOST_OF_A_KIND:
                self.findings.append((block, finding))


@dataclass(slots=True)
class _TaskResult:
    played: int = 0
    by_target: Counter[str] = field(default_factory=Counter[str])
    findings: list[tuple[int, Finding]] = field(default_factory=list[tuple[int, Finding]])


def run(*, inputs: int, seed: int, processes: int | None = None, tell: Callable[[Report], None]) -> Report:
    """Return what came of so many inputs; `tell` is called after each task.

    The same seed gives the same inputs, however many processes share them.
    """
    report = Report(wanted=inputs, seed=seed)
    blocks = -(-inputs // BLOCK)
    tasks = iter(range(0, blocks, _BLOCKS_A_TASK))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes or os.cpu_count() or 1, mp_context=context) as pool:
        under_way: dict[Future[_TaskResult], int] = {}

        def begin(first: int) -> None:
            under_way[pool.submit(play_blocks, seed, first, min(_BLOCKS_A_TASK, blocks - first))] = first

        for first in itertools.islice(tasks, 2 * (processes or os.cpu_count() or 1)):
            begin(first)
        while under_way:
            done, _ = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                first = under_way.pop(future)
                try:
                    report.add(future.result())
                except BrokenProcessPool as error:
                    last = first + _BLOCKS_A_TASK
                    raise RuntimeError(f"a process died within blocks {first} to {last} of seed {seed}") from error
                if len(report.kinds) < _MOST_KINDS and (following := next(tasks, None)) is not None:
                    begin(following)
            tell(report)
    return report


def play_blocks(seed: int, first: int, count: int) -> _TaskResult:
    """Return what came of some blocks, each finding made small."""
    result = _TaskResult()
    gc.set_threshold(100_000)  # the objects of an input are gone before the next one
    with loaded_app() as app, captured_log() as log:
        examples = examples_of(app)
        for block in range(first, first + count):
            cases = list(cases_of_block(examples, seed, block))
            result.played += len(cases)
            result.by_target.update(case.target for case in cases)
            finding = judge(app, log, cases)
            if finding is not None:
                result.findings.append((block, minimise(app, log, finding)))
    return result


def cases_of_block(examples: list[Case], seed: int, block: int) -> Iterator[Case]:
    """Yield the inputs of a block: each target as often as the others, and now and then a valid input."""
    rng = Random(f"{seed}/{block}")
    by_target: dict[str, list[Case]] = {}
    for case in examples:
        by_target.setdefault(case.target, []).append(case)
    targets = sorted(by_target)
    weights = [_WEIGHT_WITHOUT_BODY if is_plain(by_target[target]) else 1.0 for target in targets]
    for target in rng.choices(targets, weights, k=BLOCK):
        pool = by_target[target]
        case = rng.choice(pool)
        yield case if rng.random() < 0.03 else mutate(case, rng, pool)


def is_plain(examples: list[Case]) -> bool:
    """Return whether a function takes nothing but a query and headers: there is less to find."""
    return all(
        case.target.startswith("http:") and not case.get("body") and not case.below("route.") for case in examples
    )

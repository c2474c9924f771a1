"""Tests the control plane in a simulated world: `make chaos`, `make chaos SEED=7`, `make chaos SCHEDULES=100000`."""

import argparse
import os
import sys
import time
from collections import Counter

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tests.simulation.campaign import Campaign, Story, run_many, tell_story
from tests.simulation.defects import DEFECTS

_TOLD = 3  # stories at most: the shrinking of each takes a while


def main() -> int:
    """Run what the command line asks for; return 1 if a promise was broken."""
    asked = _read_arguments()
    console = Console(highlight=False, soft_wrap=True)
    if asked.seed is not None:
        return _repeat(console, asked.seed, asked.defect)
    campaign, took_s = _run(console, range(asked.first, asked.first + asked.schedules), asked.processes, asked.defect)
    rate = campaign.schedules / took_s
    console.print(
        f"{campaign.schedules:,} schedules in {took_s:.0f} s, {rate:.0f} a second "
        f"in {asked.processes} process(es): {len(campaign.violations)} broke a promise"
    )
    console.print(_what_happened(campaign.counts))
    for seed in sorted(campaign.violations)[:_TOLD]:
        _repeat(console, seed, asked.defect)
    for seed in sorted(campaign.violations)[_TOLD:]:
        console.print(f"seed {seed}: {campaign.violations[seed].splitlines()[0]}", markup=False)
    return 1 if campaign.violations else 0


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--schedules", type=int, default=2000, help="how many (2000)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--seed", type=int, help="repeat one, make it short and tell its story")
    parser.add_argument("--defect", choices=sorted(DEFECTS), help="break the code under test on purpose")
    parser.add_argument("--processes", type=int, default=os.process_cpu_count() or 1, help="one a core")
    return parser.parse_args()


def _run(console: Console, seeds: range, processes: int, defect: str | None) -> tuple[Campaign, float]:
    columns = (
        TextColumn("schedules"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    began = time.monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("schedules", total=len(seeds), rate="")

        def show(campaign: Campaign) -> None:
            rate = campaign.schedules / (time.monotonic() - began)
            found = f", {len(campaign.violations)} violations" if campaign.violations else ""
            progress.update(task, completed=campaign.schedules, rate=f"{rate:.0f}/s{found}")

        campaign = run_many(seeds, processes=processes, defect=defect, on_progress=show)
    return campaign, time.monotonic() - began


def _what_happened(counts: Counter[str]) -> str:
    """Return how often the things happened that make a schedule worth running."""
    names = {
        "stops": "stops of workers",
        "upload": "uploads",
        "redeliver": "redeliveries",
        "processes died": "processes died",
        "lose before": "calls lost",
        "lose after": "answers lost",
        "throttled": "calls throttled",
        "outage": "calls unanswered",
        "poisoned": "messages poisoned",
        "skew": "clock jumps",
        "job": "fates of Databricks runs",
        "retry": "retries by people",
        "compared with a twin": "compared with a twin without faults",
    }
    return "; ".join(f"{counts[key]:,} {words}" for key, words in names.items())


def _repeat(console: Console, seed: int, defect: str | None) -> int:
    """Tell the story of a seed; return 1 if it breaks a promise."""
    story = tell_story(seed, defect=defect)
    if story is None:
        console.print(f"seed {seed}: every promise is kept")
        return 0
    _tell(console, seed, story, defect)
    return 1


def _tell(console: Console, seed: int, story: Story, defect: str | None) -> None:
    with_defect = f" DEFECT='{defect}'" if defect else ""
    lines = [
        f"\nseed {seed} breaks a promise: {story.violation}",
        f"\nThe shortest schedule found, {len(story.schedule.actions)} actions:",
        *(f"  {action.kind.value} {action.a} {action.b} {action.c}" for action in story.schedule.actions),
        "\nWhat happened:",
        *(f"  {line}" for line in story.lines),
        f"\nHistory of {story.violation.entity}:",
        *(f"  {line}" for line in story.history),
        f"\nRepeat it: make chaos SEED={seed}{with_defect}",
    ]
    console.print("\n".join(lines), markup=False)


if __name__ == "__main__":
    sys.exit(main())

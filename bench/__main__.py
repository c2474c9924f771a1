"""Runs the measurements: all of them, or one by name; the large ones also in a smaller size."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from bench import arrival_to_submitted, cold_start, ledger_on_azurite, ledger_operations, local_cloud, storm
from bench.figures import Figure, keep, show

MEASUREMENTS: dict[str, Callable[[Console], Sequence[Figure]]] = {
    "cold_start": cold_start.measure,
    "arrival_to_submitted": arrival_to_submitted.measure,
    "local_cloud": local_cloud.measure,
}
SIZED: dict[str, tuple[Callable[[Console, int], Sequence[Figure]], int]] = {  # with how many arrivals by themselves
    "ledger_operations": (ledger_operations.measure, 1_000_000),
    "ledger_on_azurite": (ledger_on_azurite.measure, 50_000),
    "storm": (storm.measure, 10_000),
    "storm_many_pipelines": (storm.measure_many_pipelines, 2_000),
    "storm_429": (storm.measure_429, 1_000),
}


def main() -> int:
    """Measure, print, keep; exit 1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", choices=sorted([*MEASUREMENTS, *SIZED]), help="run this measurement alone")
    parser.add_argument("--arrivals", type=int, help=f"another size for {', '.join(SIZED)}; then nothing is kept")
    options = parser.parse_args()
    chosen, size = options.only, options.arrivals
    console = Console()
    figures: list[Figure] = []
    for name, measure in MEASUREMENTS.items():
        if chosen in {None, name}:
            console.rule(name, align="left")
            figures += measure(console)
    for name, (sized, arrivals) in SIZED.items():
        if chosen in {None, name}:
            console.rule(name, align="left")
            figures += sized(console, size or arrivals)
    show(figures, console)
    if size is None:
        keep(figures, Path(__file__).with_name("results.json"))
    return 0 if all(figure.holds is not False for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())

"""Runs the measurements: all of them, or one by name."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from bench import arrival_to_submitted, cold_start, local_cloud
from bench.figures import Figure, keep, show

MEASUREMENTS: dict[str, Callable[[Console], Sequence[Figure]]] = {
    "cold_start": cold_start.measure,
    "arrival_to_submitted": arrival_to_submitted.measure,
    "local_cloud": local_cloud.measure,
}


def main() -> int:
    """Measure, print, keep; exit 1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", choices=sorted(MEASUREMENTS), help="run this measurement alone")
    chosen = parser.parse_args().only
    console = Console()
    figures: list[Figure] = []
    for name, measure in MEASUREMENTS.items():
        if chosen in {None, name}:
            console.rule(name, align="left")
            figures += measure(console)
    show(figures, console)
    keep(figures, Path(__file__).with_name("results.json"))
    return 0 if all(figure.holds is not False for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())

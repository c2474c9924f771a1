"""Collects measured figures, prints them as a table, and keeps them in results.json."""

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

__all__ = ["Figure", "describe_machine", "keep", "show"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured number beside its goal."""

    measurement: str
    name: str
    value: float
    unit: str
    goal: float | None = None
    goal_is: Literal["at most", "at least"] = "at most"
    detail: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether the goal is met; None if there is no goal."""
        if self.goal is None:
            return None
        return self.value <= self.goal if self.goal_is == "at most" else self.value >= self.goal


def describe_machine() -> dict[str, str | int]:
    """Return what the figures depend on: processors, memory, system, Python."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processors": os.cpu_count() or 0,
        "processor": _processor_name(),
        "memory_gib": round(memory_bytes / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def show(figures: Sequence[Figure], console: Console) -> None:
    """Print a table of figure, goal and whether it holds."""
    table = Table(title="Measurements", title_justify="left")
    for column in ("measurement", "figure", "value", "goal", "holds", "detail"):
        table.add_column(column, justify="right" if column in {"value", "goal"} else "left")
    for figure in figures:
        goal = "" if figure.goal is None else f"{'≤' if figure.goal_is == 'at most' else '≥'} {figure.goal:g}"
        holds = {True: "[green]yes", False: "[red]no", None: ""}[figure.holds]
        table.add_row(figure.measurement, figure.name, f"{figure.value:.3g} {figure.unit}", goal, holds, figure.detail)
    console.print(table)


def keep(figures: Sequence[Figure], path: Path) -> None:
    """Write the figures with the machine described; figures of measurements not run this time stay."""
    earlier = json.loads(path.read_text()) if path.exists() else {"figures": []}
    measured = {figure.measurement for figure in figures}
    rows = [row for row in earlier["figures"] if row["measurement"] not in measured]
    taken_at = datetime.now(UTC).isoformat(timespec="seconds")
    rows += [{**asdict(figure), "holds": figure.holds, "taken_at": taken_at} for figure in figures]
    document = {"machine": describe_machine(), "figures": rows}
    path.write_text(json.dumps(document, indent=2) + "\n")


def _processor_name() -> str:
    """Return the processor's marketing name where the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    if platform.system() == "Darwin":
        answer = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
        )
        return answer.stdout.strip() or platform.processor()
    return platform.processor()

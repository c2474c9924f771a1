"""Runs the fuzzing: `python -m tests.fuzz [--inputs N] [--seed S]`, or one input again: `--case TEXT`."""

import argparse
import sys
import time
from io import TextIOWrapper
from random import SystemRandom

from tests.fuzz.app import captured_log, loaded_app
from tests.fuzz.campaign import Report, run
from tests.fuzz.case import Case
from tests.fuzz.judging import judge

_TELL_EVERY_S = 10.0


def main() -> int:
    """Return 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="how many inputs over all targets")
    parser.add_argument("--seed", type=int, default=None, help="repeats a campaign; by default another one each time")
    parser.add_argument("--processes", type=int, default=None, help="by default one for each processor")
    parser.add_argument("--case", action="append", help="plays an input that was printed; may be given several times")
    options = parser.parse_args()
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what is found may be no text
    if options.case:
        return _play(options.case)
    seed = options.seed if options.seed is not None else SystemRandom().randrange(10**9)
    print(f"{options.inputs:,} inputs, seed {seed}", flush=True)
    report = run(inputs=options.inputs, seed=seed, processes=options.processes, tell=_Progress())
    _print_report(report)
    return 1 if report.findings else 0


def _play(texts: list[str]) -> int:
    with loaded_app() as app, captured_log() as log:
        finding = judge(app, log, [Case.from_text(text) for text in texts])
    print(finding if finding is not None else "nothing goes wrong")
    return 0 if finding is None else 1


class _Progress:
    """Prints a line now and then, on a terminal always the same one."""

    def __init__(self) -> None:
        self._told_at = 0.0

    def __call__(self, report: Report) -> None:
        is_terminal, now = sys.stdout.isatty(), time.monotonic()
        if not is_terminal and now - self._told_at < _TELL_EVERY_S and report.played < report.wanted:
            return
        self._told_at = now
        done = report.played / report.wanted
        bar = "█" * round(20 * done) + "░" * (20 - round(20 * done))
        line = f"{bar} {report.played:>11,} inputs  {report.rate:>7,.0f}/s  {len(report.kinds)} kinds of findings"
        print(f"\r{line}" if is_terminal else line, end="" if is_terminal else "\n", flush=True)


def _print_report(report: Report) -> None:
    took_s = time.monotonic() - report.began
    print(f"\n{report.played:,} inputs in {took_s:,.0f} s: {report.rate:,.0f}/s")
    for target, count in sorted(report.by_target.items()):
        print(f"  {target:<28} {count:>9,}")
    for block, finding in report.findings:
        print(f"\nFound with seed {report.seed}, block {block}: {finding.kind}\n{finding}")
        print("Again: .venv/bin/python -m tests.fuzz " + " ".join(f"--case {case.to_text()}" for case in finding.cases))
    if not report.findings:
        print("Nothing was found.")


if __name__ == "__main__":
    sys.exit(main())

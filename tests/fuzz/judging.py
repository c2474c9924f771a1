"""Plays inputs under a bound of time, and makes what is found as small as it can be."""

import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from tests.fuzz.app import App, Log
from tests.fuzz.case import Case
from tests.fuzz.targets import Stage, WrongError

__all__ = ["Finding", "Limits", "TooSlowError", "judge", "minimise"]

_SLOW_TIMES: Final = 3  # slow once may be the garbage collector's turn
_MOST_TRIES: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """For how long an input may keep a worker: of this process's own time, which others on the machine do not touch.

    A usual input takes a millisecond.
    """

    slow_s: float = 1.0
    hangs_s: float = 20.0
    sleeps_s: float = 600.0  # of anybody's time: an input that waits uses none of its own


_LIMITS: Final = Limits()


class TooSlowError(WrongError):
    """An input kept a worker busy for longer than it may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What went wrong, with the inputs that lead to it; the last one is the culprit."""

    cases: tuple[Case, ...]
    error: str
    kind: str  # findings of one kind have one cause, as a rule
    is_certain: bool  # else a bound of time struck somewhere among them

    def __str__(self) -> str:
        return "\n".join([self.error, *map(str, self.cases)])


def judge(app: App, log: Log, cases: Sequence[Case], limits: Limits = _LIMITS) -> Finding | None:
    """Return what goes wrong when these inputs come one after the other, up to the first that does."""
    began = time.process_time()
    finding = _play(app, log, cases, limits)
    if finding is None and time.process_time() - began <= limits.slow_s:
        return None
    if finding is not None and finding.is_certain:
        return finding
    return _find_slow(app, log, cases, limits)  # all of them together were slow: was any of them alone?


def _find_slow(app: App, log: Log, cases: Sequence[Case], limits: Limits) -> Finding | None:
    for case in cases:
        times = []
        for _ in range(_SLOW_TIMES):
            began = time.process_time()
            finding = _play(app, log, [case], limits)
            times.append(time.process_time() - began)
            if times[-1] <= limits.slow_s or (finding is not None and finding.is_certain):
                break
        else:
            error = f"TooSlowError: it takes {min(times):.1f} s of processor time"
            return Finding(cases=(case,), error=error, kind=f"{case.target} TooSlowError", is_certain=True)
    return None


def _play(app: App, log: Log, cases: Sequence[Case], limits: Limits) -> Finding | None:
    played: list[Case] = []
    with _bounded(limits):
        stage = Stage.set_up(app, log)
        for case in cases:
            played.append(case)
            try:
                stage.play(case)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - whatever escapes is what is looked for
                is_certain = not isinstance(error, TooSlowError)
                kind = _kind_of(case, error)
                return Finding(cases=tuple(played), error=_told(error), kind=kind, is_certain=is_certain)
    return None


def minimise(app: App, log: Log, finding: Finding) -> Finding:
    """Return a finding of the same kind with fewer and shorter inputs."""
    tries = 0

    def still_fails(cases: Sequence[Case]) -> Finding | None:
        nonlocal tries
        tries += 1
        found = judge(app, log, cases) if tries <= _MOST_TRIES else None
        return found if found is not None and found.kind == finding.kind else None

    *earlier, culprit = finding.cases
    if (alone := still_fails([culprit])) is not None:
        finding = alone
    else:
        for case in earlier:
            without = [other for other in finding.cases if other is not case]
            finding = still_fails(without) or finding
    for name, _ in finding.cases[-1].parts:
        finding = still_fails([*finding.cases[:-1], finding.cases[-1].without(name)]) or finding
    for name, _ in finding.cases[-1].parts:
        finding = _shorten(finding, name, still_fails)
    return finding


def _shorten(finding: Finding, name: str, still_fails: Callable[[Sequence[Case]], Finding | None]) -> Finding:
    """Return the finding with as few bytes of a part as make it, cutting halves, quarters, and so on away."""
    size = max(1, len(finding.cases[-1].get(name) or b"") // 2)
    while size:
        at = 0
        while at < len(value := finding.cases[-1].get(name) or b""):
            shorter = finding.cases[-1].with_part(name, value[:at] + value[at + size :])
            smaller = still_fails([*finding.cases[:-1], shorter])
            if smaller is None:
                at += size
            else:
                finding = smaller
        size //= 2
    return finding


def _kind_of(case: Case, error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/functions/" in frame.filename] or frames
    where = f"{ours[-1].filename.rpartition('/')[2]}:{ours[-1].name}" if ours else "nowhere"
    what = str(error)[:40] if isinstance(error, WrongError) else where
    return f"{case.target} {type(error).__name__} {what}"


def _told(error: BaseException) -> str:
    if isinstance(error, WrongError):
        return f"{type(error).__name__}: {error}"
    return "".join(traceback.format_exception(error, limit=-4)).rstrip()


@contextmanager
def _bounded(limits: Limits) -> Iterator[None]:
    """Raise within whatever goes on for ever, be it at work or asleep."""

    def ring(number: int, frame: Any) -> None:
        del number, frame
        raise TooSlowError("it went on and on")

    before = {number: signal.signal(number, ring) for number in (signal.SIGVTALRM, signal.SIGALRM)}
    signal.setitimer(signal.ITIMER_VIRTUAL, limits.hangs_s)
    signal.setitimer(signal.ITIMER_REAL, limits.sleeps_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)

"""Says whether the control plane can do its work, and everything that it lacks."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from functions.core.alerts import Alert
from functions.core.errors import MlopsError, Problem
from functions.core.model import PipelineKey
from functions.core.reading import to_iso
from functions.core.reasons import HoldReason
from functions.services.left_behind import LeftBehind, find_left_behind
from functions.services.plane import ControlPlane
from functions.services.turnstile import is_kept_out

__all__ = ["Health", "check_health", "health_of", "red"]

_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FRESH_FOR: Final = timedelta(seconds=30)
_RED_FRESH_FOR: Final = timedelta(seconds=5)  # whoever has just mended something looks again soon
_ALERTS_SHOWN_FOR: Final = timedelta(days=7)
_MOST_ALERTS: Final = 50
_ALERTS_COUNTED: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Green without problems; each problem is a name for machines and a sentence for people."""

    problems: tuple[tuple[str, str], ...]
    checked_at: datetime
    alerts: tuple[Alert, ...] = ()  # what a person must look at; it makes nothing red, because nothing waits for it
    more_alerts: int = 0  # how many there are beside those; a thousand are counted in all
    held: tuple[tuple[PipelineKey, HoldReason], ...] = ()  # pipelines of which nothing starts, and why; not red either
    left_behind: tuple[LeftBehind, ...] = ()  # held for pipelines that are not configured any more: likewise

    @property
    def is_green(self) -> bool:
        """Whether everything works."""
        return not self.problems

    def to_public_json(self, *, with_details: bool) -> dict[str, object]:
        """Return what the health endpoint answers; details are for callers with a key."""
        names = [name for name, _ in self.problems]
        document: dict[str, object] = {"status": "green" if self.is_green else "red", "problems": names}
        if with_details:
            document["details"] = [{"name": name, "problem": text} for name, text in self.problems]
            document["alerts"] = [
                {
                    "kind": alert.kind.value,
                    "pipeline": alert.pipeline,
                    "run_id": alert.run_id,
                    "attempt": alert.attempt,
                    "at": to_iso(alert.at),
                    "detail": alert.detail,
                }
                for alert in self.alerts
            ]
            document["more_alerts"] = self.more_alerts
            document["held"] = [
                {"pipeline": pipeline, "reason": reason.value, "sentence": reason.sentence}
                for pipeline, reason in self.held
            ]
            document["left_behind"] = [{"pipeline": left.pipeline, "what": str(left)} for left in self.left_behind]
        return document


def red(problems: Sequence[Problem]) -> Health:
    """Return the health of an app whose configuration has mistakes."""
    return Health(problems=tuple((item.place, str(item)) for item in problems), checked_at=_NEVER)


_last: dict[int, Health] = {}


def health_of(plane: ControlPlane) -> Health:
    """Return a recent result, so that an anonymous caller cannot keep the workspace busy."""
    now, last = plane.clock.now(), _last.get(id(plane))
    fresh_for = _FRESH_FOR if last is not None and last.is_green else _RED_FRESH_FOR
    if last is None or not timedelta(0) <= now - last.checked_at < fresh_for:
        last = check_health(plane)
        _last.clear()
        _last[id(plane)] = last
    return last


def check_health(plane: ControlPlane) -> Health:
    """Ask the ledger and the workspace; one that does not answer is a problem, not an error."""
    problems: list[tuple[str, str]] = []
    for key in plane.pipelines.by_key:
        try:
            plane.ledger.held_arrivals(PipelineKey(key), limit=1)
        except MlopsError as error:
            problems.append(("ledger", str(error)))
            break
    for job in sorted(plane.pipelines.jobs):
        try:
            plane.submitter.check_job(job)
        except MlopsError as error:
            problems.append((f"job:{job}", str(error)))
    now = plane.clock.now()
    alerts: tuple[Alert, ...] = ()
    held: tuple[tuple[PipelineKey, HoldReason], ...] = ()
    left_behind: tuple[LeftBehind, ...] = ()
    if "ledger" not in dict(problems):  # one that hangs takes half a minute for each question
        try:
            alerts = tuple(plane.ledger.alerts(since=now - _ALERTS_SHOWN_FOR, limit=_ALERTS_COUNTED))
            held = _held(plane)
            left_behind = find_left_behind(plane)
        except MlopsError as error:
            problems.append(("ledger", str(error)))
    return Health(
        problems=tuple(problems),
        checked_at=now,
        alerts=alerts[:_MOST_ALERTS],
        more_alerts=max(0, len(alerts) - _MOST_ALERTS),
        held=held,
        left_behind=left_behind,
    )


def _held(plane: ControlPlane) -> tuple[tuple[PipelineKey, HoldReason], ...]:
    refusals = [(key, is_kept_out(plane, key)) for key in plane.pipelines.by_key]
    return tuple((key, refusal.reason) for key, refusal in refusals if refusal is not None)

"""Says which runs and arrivals a person wants to see, and how far back they are looked for."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import unquote_to_bytes

from functions.core.ledger import Arrival, Run
from functions.core.model import ArrivalState, Outcome, PipelineKey, RunId, RunState

__all__ = ["RUN_STATES", "ArrivalFilter", "RunFilter", "parse_blob_place", "runs_named_by"]

# What a person asks for as a state is where a run stands or, once it has ended, how.
RUN_STATES: Final = (*(state.value for state in RunState), *(outcome.value for outcome in Outcome))
_URL: Final = re.compile(r"https://([a-z0-9]{3,24})\.blob\.core\.windows\.net/([a-z0-9$-]{3,63})/([^?#]+)")
_LISTED_BACK_TO: Final = timedelta(days=31)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivalFilter:
    """Which arrivals are wanted; None: any."""

    pipeline: PipelineKey | None = None
    state: ArrivalState | None = None
    since: datetime | None = None
    until: datetime | None = None

    def wants(self, arrival: Arrival) -> bool:
        """Return whether the arrival is one of them."""
        is_of_pipeline = self.pipeline is None or arrival.pipeline == self.pipeline
        is_in_state = self.state is None or arrival.state is self.state
        is_young = self.since is None or arrival.recorded_at >= self.since
        return is_of_pipeline and is_in_state and is_young and (self.until is None or arrival.recorded_at < self.until)

    def window(self, now: datetime) -> tuple[datetime, datetime]:
        """Return the time that is looked at: a month back, unless it is said."""
        until = self.until or now + timedelta(minutes=5)  # clocks differ a little
        return self.since or until - _LISTED_BACK_TO, until


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs are wanted; None: any."""

    state: str | None = None  # one of RUN_STATES
    model: str | None = None  # catalog.schema.model, or with its version as catalog.schema.model/7

    def wants(self, run: Run) -> bool:
        """Return whether the run is one of them, whatever its pipeline and time."""
        outcome = None if run.outcome is None else run.outcome.value
        if self.state is not None and self.state not in {run.state.value, outcome}:
            return False
        if self.model is None:
            return True
        name, _, version = self.model.partition("/")
        made = None if run.completion is None or run.completion.model is None else run.completion.model.version
        return name == run.model_name and version in {"", run.model_version or made}


def parse_blob_place(url: str) -> tuple[str, str, str] | None:
    """Return account, container and path of a blob's https URL, or None if it is none."""
    match = _URL.fullmatch(url)
    if match is None:
        return None
    try:
        return match[1], match[2], unquote_to_bytes(match[3]).decode()
    except UnicodeDecodeError:
        return None


def runs_named_by(arrivals: Sequence[Arrival]) -> list[RunId]:
    """Return the runs that these arrivals were ever assigned to, the latest first, as their histories tell."""
    found: dict[RunId, datetime] = {}
    for arrival in arrivals:
        for change in arrival.history:
            if change.state == ArrivalState.ASSIGNED.value and change.note:
                run_id = RunId(change.note)
                found[run_id] = max(change.at, found.get(run_id, change.at))
    return sorted(found, key=lambda run_id: found[run_id], reverse=True)

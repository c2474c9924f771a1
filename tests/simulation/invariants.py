"""Checks a world that has come to rest: what was delivered, what was promised, what is left over."""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

from functions.core.alerts import AlertKind
from functions.core.completion import completion_event_id
from functions.core.ledger import Arrival, Run
from functions.core.ledger_rows import arrival_from_row
from functions.core.manifest import InputManifest
from functions.core.model import ArrivalState, Outcome, RunState
from functions.core.pipelines import ConcurrencyPolicy
from functions.core.splitting import MOST_RELEASES, refused_arrivals
from functions.core.tokens import arrival_id_of
from tests.simulation.notebooks import Notebooks
from tests.simulation.outside import Outside, Sent, name_of
from tests.simulation.violations import Violation
from tests.support.control_plane import World

__all__ = ["Rest", "unfinished"]


class Rest:
    """A world in which nothing happens any more, as the checks see it."""

    def __init__(self, world: World, outside: Outside, notebooks: Notebooks, *, is_calm: bool) -> None:
        self._world = world
        self._outside = outside
        self._notebooks = notebooks
        self._is_calm = is_calm
        self.runs = {run.id: run for run in world.runs()}
        rows = [arrival_from_row(values) for values, _ in world.tables.rows["arrivals"].values()]
        self.arrivals: dict[str, Arrival] = {arrival.id: arrival for arrival in rows}

    def check(self) -> None:
        """Raise the first violation there is."""
        self.i1_every_delivered_event_has_one_entry()
        self.i1_what_nobody_can_read_is_kept()
        self.i1_every_signal_has_a_record()
        self.i2_no_attempt_ran_twice()
        self.i5_one_completion_id_per_run_attempt_and_outcome()
        self.i5_every_end_was_announced()
        self.i7_the_unknown_was_told()
        self.i6_everything_converged()
        self.i6_arrivals_and_runs_agree()
        self.i6_the_good_go_on_without_the_bad()

    def i1_every_delivered_event_has_one_entry(self) -> None:
        """Each version of each blob is one row, however often its event came; and there are no rows beside."""
        name = "I1 every delivered event has exactly one ledger entry"
        rows = Counter(arrival_id_of(arrival.blob) for arrival in self._rows())
        for sent in self._outside.sent:
            count = rows[arrival_id_of(sent.blob)]
            if count != 1:
                message = f"{name_of(sent)} was delivered {sent.deliveries} times and has {count} ledger entries"
                raise Violation(name, arrival_id_of(sent.blob), message)
        for arrival in self._rows():
            if arrival.id != arrival_id_of(arrival.blob) or rows[arrival.id] != 1:
                raise Violation(name, arrival.id, f"the entry {arrival.id[:12]}… is not that of its blob alone")
        if len(rows) != len({arrival_id_of(sent.blob) for sent in self._outside.sent}):
            raise Violation(name, "arrivals", f"there are {len(rows)} entries, but {len(self._outside.sent)} events")

    def i1_what_nobody_can_read_is_kept(self) -> None:
        """A message that cannot be decided is in quarantine with its reason, never gone."""
        kept = {str(document["message_id"]) for document in self._world.quarantine.documents.values()}
        listed = {str(values["id"]) for (of, _), (values, _) in self._marks() if of == "quarantined"}
        for message in self._outside.garbage:
            if message.id not in kept or message.id not in listed:
                where = (
                    "not in quarantine" if message.id not in kept else "in quarantine, but the ledger does not say so"
                )
                raise Violation(
                    "I1 every delivered event has exactly one ledger entry",
                    message.id,
                    f"a message that nobody can read came into queue {message.queue!r} and is {where}",
                )

    def i1_every_signal_has_a_record(self) -> None:
        """What a monitor sent is remembered with what became of it."""
        for signal in self._outside.signals:
            if self._world.signals.find(signal) is None:
                message = f"signal {signal.event_id} was delivered, and nothing says what became of it"
                raise Violation("I1 every delivered event has exactly one ledger entry", signal.event_id, message)

    def i7_the_unknown_was_told(self) -> None:
        """An attempt that failed because of a state that nobody knows has raised an alert."""
        alerts = self._world.ledger.alerts(since=datetime(2026, 1, 1, tzinfo=UTC), limit=10_000)
        told = {(alert.run_id, alert.attempt) for alert in alerts if alert.kind is AlertKind.UNKNOWN_DATABRICKS_STATE}
        for run in self.runs.values():
            ends = [(attempt.number, attempt.reason) for attempt in run.attempts]
            for attempt, reason in (*ends, (run.attempt, run.reason)):
                if "unknown state" in (reason or "") and (run.id, attempt) not in told:
                    message = f"attempt {attempt} of run {run.id} ended in an unknown state, and no alert says so"
                    raise Violation("I7 nothing unknown is success", run.id, message)

    def i2_no_attempt_ran_twice(self) -> None:
        """One attempt is one Databricks run, and one token is one Databricks run."""
        runs = self._world.databricks_runs()
        for what, counts in (
            ("attempt", Counter((run.parameters["run_id"], run.parameters["attempt"]) for run in runs)),
            ("token", Counter((run.parameters["run_id"], run.token[:12]) for run in runs)),
        ):
            for (run_id, of), count in counts.items():
                if count > 1:
                    message = f"{what} {of} of run {run_id} was started as {count} Databricks runs"
                    raise Violation("I2 an arrival is in at most one live run", run_id, message)

    def i5_one_completion_id_per_run_attempt_and_outcome(self) -> None:
        """Whoever announces the same end of the same attempt gives it the same id."""
        wanted = {
            f"{run.id}.{attempt}.{outcome.value}"
            for run in self.runs.values()
            for attempt in range(1, run.attempt + 1)
            for outcome in Outcome
        }
        for event in self._world.publisher.published:
            expected = f"{event.run_id}.{event.attempt}.{event.outcome.value}"
            if event.id != expected:
                message = f"an end of run {event.run_id} was announced as {event.id!r} instead of {expected!r}"
                raise Violation("I5 one completion id per run, attempt and outcome", event.run_id, message)
        for event_id in sorted(self._notebooks.announced - wanted):
            message = f"a completion event is called {event_id!r}, which is not <run>.<attempt>.<outcome> of any run"
            raise Violation("I5 one completion id per run, attempt and outcome", event_id, message)

    def i5_every_end_was_announced(self) -> None:
        """The topic got the completion event of each attempt that ended, from the notebook or from us."""
        topic = self._notebooks.announced | {event.id for event in self._world.publisher.published}
        for run in self.runs.values():
            ends = [(attempt.number, attempt.outcome) for attempt in run.attempts]
            ends.append((run.attempt, run.outcome))
            for attempt, outcome in ends:
                if outcome is None or completion_event_id(run.id, attempt, outcome) in topic:
                    continue
                message = f"attempt {attempt} of run {run.id} ended as {outcome.value}, and nobody was told"
                raise Violation("I5 one completion id per run, attempt and outcome", run.id, message)

    def i6_everything_converged(self) -> None:
        """What was delivered ended as in a world without faults: scored, or given up for a reason that is real."""
        for sent in self._outside.sent:
            arrival = self.arrivals[arrival_id_of(sent.blob)]
            allowed = set(self._allowed(sent))
            if arrival.state not in allowed:
                states = " or ".join(sorted(state.value for state in allowed))
                raise Violation(
                    "I6 a crash anywhere converges to the result without the crash",
                    arrival.id,
                    f"{name_of(sent)} is {arrival.state.value} ({arrival.reason}), "
                    f"but without faults it would be {states}",
                )

    def i6_arrivals_and_runs_agree(self) -> None:
        """An arrival is scored exactly if a run that read it is completed."""
        name = "I6 a crash anywhere converges to the result without the crash"
        for run in self.runs.values():
            for arrival_id in self._arrivals_of(run):
                arrival = self.arrivals.get(arrival_id)
                if run.outcome is Outcome.COMPLETED and (arrival is None or arrival.state is not ArrivalState.SCORED):
                    state = "missing" if arrival is None else arrival.state.value
                    message = f"run {run.id} is completed, but its arrival {arrival_id[:12]}… is {state}"
                    raise Violation(name, arrival_id, message)
        for arrival in self.arrivals.values():
            of = self.runs.get(arrival.run_id) if arrival.run_id is not None else None
            is_scored = arrival.state is ArrivalState.SCORED
            if is_scored and (
                of is None or of.outcome is not Outcome.COMPLETED or arrival.id not in self._arrivals_of(of)
            ):
                message = f"arrival {arrival.id[:12]}… is scored, but run {arrival.run_id} did not complete with it"
                raise Violation(name, arrival.id, message)
            if arrival.state is ArrivalState.FAILED and (of is None or of.outcome is Outcome.COMPLETED):
                message = f"arrival {arrival.id[:12]}… has failed, but run {arrival.run_id} did not"
                raise Violation(name, arrival.id, message)

    def _allowed(self, sent: Sent) -> Iterator[ArrivalState]:
        """Yield the states in which an undisturbed world may leave an arrival."""
        if sent.pipeline is None:
            yield ArrivalState.IGNORED
            return
        if not sent.is_unreadable:
            yield ArrivalState.SCORED
        if not self._outside.newest(sent.blob):
            yield ArrivalState.SUPERSEDED
        policy = self._world.pipelines.get(sent.pipeline).concurrency.policy
        if policy is ConcurrencyPolicy.DROP:
            yield ArrivalState.IGNORED
        is_freed_too_often = len(_releases(self.arrivals[arrival_id_of(sent.blob)])) >= MOST_RELEASES
        is_bad = sent.is_unreadable or is_freed_too_often
        if not self._is_calm or policy is ConcurrencyPolicy.SUPERSEDE or is_bad:
            yield ArrivalState.FAILED

    def i6_the_good_go_on_without_the_bad(self) -> None:
        """No arrival has failed in a run that blames other files alone, unless it was in such runs too often."""
        name = "I6 a crash anywhere converges to the result without the crash"
        for arrival in self.arrivals.values():
            run = self.runs.get(arrival.run_id) if arrival.run_id is not None else None
            event = None if run is None else run.completion
            if run is None or event is None or event.refused is None or run.outcome is not Outcome.FAILED:
                continue
            if self._world.pipelines.get(run.pipeline).concurrency.policy is ConcurrencyPolicy.SUPERSEDE:
                continue
            blamed = refused_arrivals(event, [arrival.blob])
            is_alone = run.arrival_count <= 1 or not any(
                refused_arrivals(event, [other.blob]) for other in self.arrivals.values() if other.run_id == run.id
            )
            is_innocent = arrival.state is ArrivalState.FAILED and not blamed and not is_alone
            if is_innocent and len(_releases(arrival)) < MOST_RELEASES:
                message = f"{arrival.blob.path} {arrival.blob.etag} has failed with run {run.id}, which blames others"
                raise Violation(name, arrival.id, message)
        for arrival in self.arrivals.values():
            if len(_releases(arrival)) > MOST_RELEASES:
                raise Violation(name, arrival.id, f"{arrival.blob.path} was set free {len(_releases(arrival))} times")

    def _arrivals_of(self, run: Run) -> frozenset[str]:
        data = None if run.manifest is None else self._world.manifests.blobs.get(run.manifest.url)
        if data is None:
            return frozenset()
        files = InputManifest.from_bytes(data).files
        return frozenset(file.arrival_id for file in files if file.arrival_id is not None)

    def _rows(self) -> Iterator[Arrival]:
        for values, _ in self._world.tables.rows["arrivals"].values():
            yield arrival_from_row(values)

    def _marks(self) -> Iterator[tuple[tuple[str, str], tuple[dict[str, str | int | bool], str]]]:
        yield from self._world.tables.rows["marks"].items()


def _releases(arrival: Arrival) -> list[str]:
    """Return the attempts that set the arrival free because of other files."""
    notes = [change.note for change in arrival.history if change.state == ArrivalState.HELD.value]
    return [note for note in notes if note.endswith("failed because of other files")]


def unfinished(world: World, messages: int) -> Violation | None:
    """Return what is still not over, as the violation that it is once faults have stopped for long enough."""
    progress = "progress: once faults stop, everything ends and nothing is held for ever"
    for run in world.runs():
        if not run.is_story_over:
            said = "ended, but its end is not announced" if run.state is RunState.ENDED else f"still {run.state.value}"
            return Violation(progress, run.id, f"run {run.id} is {said} (attempt {run.attempt}, {run.reason})")
    for values, _ in world.tables.rows["arrivals"].values():
        if values["state"] in {ArrivalState.HELD.value, ArrivalState.ASSIGNED.value}:
            facts = json.dumps({key: values.get(key) for key in ("path", "etag", "run_id", "reason")})
            return Violation(progress, str(values["id"]), f"an arrival is still {values['state']}: {facts}")
    for table in ("pending", "open"):
        for (_, key), (values, _) in world.tables.rows[table].items():
            entity = str(values.get("id", key))
            return Violation(progress, entity, f"table {table} still has a row of {entity}, which is over")
    if messages:
        return Violation(progress, "queues", f"{messages} messages go round in the queues for ever")
    return None

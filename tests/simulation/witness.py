"""Looks on at every write and every submission, and objects at once to what may never be, not even for a moment."""

from collections.abc import Callable, Mapping
from typing import Final

from functions.core.manifest import InputManifest
from functions.core.model import DatabricksRunId, PipelineKey, RunId
from functions.core.pipelines import CONTROL_CONTAINER
from functions.core.rows import Row
from functions.core.tokens import arrival_id_of, partition_of_run
from tests.simulation.notebooks import Notebooks, Truth
from tests.simulation.shapes import OUTPUTS
from tests.simulation.violations import Violation
from tests.support.control_plane import World

__all__ = ["Witness"]

_AT_DATABRICKS: Final = frozenset({"submitting", "submitted", "reported"})
_NEVER_INPUT: Final = frozenset({OUTPUTS, CONTROL_CONTAINER})


class Witness:
    """Holds the invariants that can be checked while things happen."""

    def __init__(self, world: World, notebooks: Notebooks) -> None:
        self._world = world
        self._notebooks = notebooks
        self._attempt_of_token: dict[str, tuple[str, int]] = {}
        self._token_of_attempt: dict[tuple[str, int], str] = {}
        self._live: dict[str, set[str]] = {}  # runs that have an arrival, by arrival
        self._files: dict[str, tuple[str, ...]] = {}  # arrivals in a manifest, by its URL
        self.tell: Callable[[str, Row], None] | None = None  # of every write, if there is someone to tell

    def see_write(self, table: str, key: str, old: Row | None, new: Row) -> None:
        """See a row being written."""
        if self.tell is not None:
            self.tell(table, new)
        if table == "runs":
            run_id = str(new["id"])
            i5_what_has_ended_stays_ended(run_id, old, new)
            self._see_token(run_id, new)
            self.i2_an_arrival_is_in_one_live_run(run_id, new)
            self.i4_success_needs_verified_scores(run_id, new)
            self.i7_nothing_unknown_is_success(run_id, new)
        elif table == "arrivals":
            i8_outputs_never_trigger(new)
            self.i2_no_live_run_lets_go_of_its_arrivals(old, new)

    def see_submission(self, token: str, parameters: Mapping[str, str]) -> None:
        """See a call that is about to start a run."""
        self.i3_the_token_is_persisted_before_the_call(token, parameters)
        self.nothing_is_sent_beside_what_runs(token, parameters)

    def _see_token(self, run_id: str, new: Row) -> None:
        token = new.get("token")
        if token is None:
            return
        token, attempt = str(token), (run_id, int(new["attempt"]))
        other_token = self._token_of_attempt.setdefault(attempt, token)
        if other_token != token:
            raise Violation(
                "I3 the token is persisted before the call",
                run_id,
                f"attempt {attempt[1]} of run {run_id} has two tokens: first {other_token[:12]}…, now {token[:12]}…",
            )
        other_attempt = self._attempt_of_token.setdefault(token, attempt)
        if other_attempt != attempt:
            raise Violation(
                "I3 the token is persisted before the call",
                run_id,
                f"attempt {attempt[1]} of run {run_id} has the token of attempt {other_attempt[1]} "
                f"of run {other_attempt[0]}",
            )

    def i3_the_token_is_persisted_before_the_call(self, token: str, parameters: Mapping[str, str]) -> None:
        """Whatever Databricks is asked to start, the ledger has its very token under its very attempt already."""
        wanted = (parameters["run_id"], int(parameters["attempt"]))
        if self._attempt_of_token.get(token) != wanted:
            raise Violation(
                "I3 the token is persisted before the call",
                wanted[0],
                f"attempt {wanted[1]} of run {wanted[0]} is submitted with the token {token[:12]}…, "
                "which its row has never had",
            )

    def nothing_is_sent_beside_what_runs(self, token: str, parameters: Mapping[str, str]) -> None:
        """No attempt is sent while an earlier one runs, nor beyond what may be in flight."""
        runs = self._world.workspace.runs.values()
        if any(token in {run.token, run.parameters["token"]} for run in runs):
            return  # the call starts nothing: Databricks has the run
        for run in runs:
            if run.parameters["run_id"] == parameters["run_id"] and run.status.verdict.is_open:
                raise Violation(
                    "I2 an arrival is in at most one live run",
                    parameters["run_id"],
                    f"attempt {parameters['attempt']} of run {parameters['run_id']} is sent while "
                    f"Databricks run {run.id} of its attempt {run.parameters['attempt']} is not over",
                )
        in_flight = [run.parameters["pipeline"] for run in runs if run.status.verdict.is_open]
        pipelines = self._world.pipelines
        of_all, key = pipelines.limits.max_in_flight, parameters["pipeline"]
        of_one = pipelines.get(PipelineKey(key)).concurrency.capacity
        for whose, count, limit in (
            ("all pipelines", len(in_flight), of_all),
            (f"pipeline {key}", in_flight.count(key), of_one),
        ):
            if count >= limit:
                message = f"run {parameters['run_id']} is sent while {count} runs of {whose} are in flight, of {limit}"
                raise Violation("limits: no more is in flight than may be", parameters["run_id"], message)

    def i2_an_arrival_is_in_one_live_run(self, run_id: str, new: Row) -> None:
        """No arrival is in two runs that Databricks has or may get; nor was it ever scored by two runs."""
        if new["cause_kind"] != "arrivals":
            return  # a person may ask for files to be scored again
        is_live = new["state"] in _AT_DATABRICKS or new.get("outcome") == "completed"
        for arrival in self._arrivals_in(str(new.get("manifest_url", ""))):
            runs = self._live.setdefault(arrival, set())
            if not is_live:
                runs.discard(run_id)
                continue
            runs.add(run_id)
            if len(runs) > 1:
                raise Violation(
                    "I2 an arrival is in at most one live run",
                    arrival,
                    f"arrival {arrival[:12]}… is in {len(runs)} runs that are live or have scored it: "
                    + " and ".join(sorted(runs)),
                )

    def i2_no_live_run_lets_go_of_its_arrivals(self, old: Row | None, new: Row) -> None:
        """What a run reads is nobody else's until that run's end is written."""
        if old is None or (old["state"], new["state"]) != ("assigned", "held"):
            return
        run = self._world.tables.rows["runs"].get(partition_of_run(RunId(str(old["run_id"]))))
        if run is None or run[0]["state"] not in _AT_DATABRICKS:
            return
        if str(new["id"]) in self._arrivals_in(str(run[0].get("manifest_url", ""))):
            raise Violation(
                "I2 an arrival is in at most one live run",
                str(new["id"]),
                f"arrival {str(new['id'])[:12]}… is held again while run {old['run_id']}, which reads it, is "
                f"{run[0]['state']}",
            )

    def i4_success_needs_verified_scores(self, run_id: str, new: Row) -> None:
        """A scoring run is completed only if complete and correct scores were published at its place."""
        if new.get("outcome") != "completed" or new["kind"] != "scoring":
            return
        if new["output_url"] not in self._notebooks.proven:
            raise Violation(
                "I4 success is recorded only with verified scores",
                run_id,
                f"run {run_id} is recorded as completed, but no correct scores were ever published at its output",
            )

    def i7_nothing_unknown_is_success(self, run_id: str, new: Row) -> None:
        """A run is completed only if Databricks really ended it well, in a state that has a declared meaning."""
        if new.get("outcome") != "completed":
            return
        named = new.get("databricks_run_id")
        truth = Truth.OPEN if named is None else self._notebooks.truth_of(DatabricksRunId(int(str(named))))
        if truth is not Truth.SUCCEEDED:
            raise Violation(
                "I7 nothing unknown is success",
                run_id,
                f"run {run_id} is recorded as completed, but its Databricks run {named} is really {truth.value}",
            )

    def _arrivals_in(self, url: str) -> tuple[str, ...]:
        if url not in self._files:
            data = self._world.manifests.blobs.get(url)
            if data is None:
                return ()
            self._files[url] = tuple(
                file.arrival_id for file in InputManifest.from_bytes(data).files if file.arrival_id is not None
            )
            for file in InputManifest.from_bytes(data).files:
                if file.blob.container in _NEVER_INPUT:
                    raise Violation(
                        "I8 outputs never trigger",
                        arrival_id_of(file.blob),
                        f"{file.blob.container}/{file.blob.path}, which the system itself wrote, is the input of a run",
                    )
        return self._files[url]


def i5_what_has_ended_stays_ended(run_id: str, old: Row | None, new: Row) -> None:
    """An attempt ends once: afterwards its outcome stays, and only the next attempt of an unsuccessful one follows."""
    if old is None or old["state"] != "ended":
        return
    is_same_end = new["attempt"] == old["attempt"] and new.get("outcome") == old.get("outcome")
    is_next = int(new["attempt"]) == int(old["attempt"]) + 1 and old.get("outcome") != "completed"
    if not is_same_end and not is_next:
        raise Violation(
            "I5 one completion id per run, attempt and outcome",
            run_id,
            f"run {run_id} had ended as {old.get('outcome')} in attempt {old['attempt']}, "
            f"and is now {new['state']} ({new.get('outcome')}) in attempt {new['attempt']}",
        )


def i8_outputs_never_trigger(new: Row) -> None:
    """What the system itself wrote is never anything but ignored."""
    if new["container"] in _NEVER_INPUT and new["state"] != "ignored":
        raise Violation(
            "I8 outputs never trigger",
            str(new["id"]),
            f"{new['container']}/{new['path']}, which the system itself wrote, is {new['state']} instead of ignored",
        )

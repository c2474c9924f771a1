"""Looks at a cloud from outside, through the vendors' clients, and says which of the invariants it broke.

I1 every delivered event has exactly one ledger entry · I2 an arrival is in at most one live run · I3 the token is
persisted before the call · I4 success is recorded only with verified scores · I5 one completion id per run, attempt
and outcome · I6 faults converge to the result without them · I7 nothing unknown is success · I8 outputs never trigger.
"""

import base64
import itertools
import json
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from azure.core.exceptions import AzureError, ResourceNotFoundError
from azure.storage.blob import BlobServiceClient
from databricks.sdk.service import jobs

from tests.support.fragile_cloud import FragileCloud
from tests.support.functions_host import until
from tests.support.tripwire import Door, Seen

__all__ = ["Story", "Witness"]

_PREFIX: Final = "tidegate"
_OVER: Final = frozenset({"scored", "failed", "superseded", "ignored"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """Everything that there is of one pipeline."""

    arrivals: Sequence[Mapping[str, Any]]
    runs: Sequence[Mapping[str, Any]]
    held: int
    open: int

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return (
            bool(self.arrivals)
            and all(arrival["state"] in _OVER for arrival in self.arrivals)
            and all(run["state"] == "ended" and run.get("published_at") for run in self.runs)
            and not self.held
            and not self.open
        )

    def __str__(self) -> str:
        arrivals = [(arrival["path"], arrival["state"], arrival.get("reason")) for arrival in self.arrivals]
        runs = [(run["id"], run["state"], run["attempt"], run.get("outcome"), run.get("reason")) for run in self.runs]
        return f"arrivals {arrivals}, runs {runs}, {self.held} held, {self.open} open"


class Witness:
    """Watches a cloud from its start."""

    def __init__(self, cloud: FragileCloud) -> None:
        self._cloud = cloud
        self._lock = threading.Lock()
        self._early_calls: list[str] = []
        self._events: dict[str, list[dict[str, Any]]] = defaultdict(list)
        cloud.tripwire.observe(self._look_at_submission)

    def story(self, pipeline: str) -> Story:
        """Return what the ledger has of a pipeline, by the vendor's client."""
        of_pipeline = f"pipeline eq '{pipeline}'"
        return Story(
            arrivals=self._rows("arrivals", of_pipeline),
            runs=self._rows("runs", of_pipeline),
            held=len(self._rows("pending", f"PartitionKey eq '{pipeline}'")),
            open=len(self._rows("open", f"RowKey ge '{pipeline}-' and RowKey lt '{pipeline}.'")),
        )

    def end_of(self, pipeline: str, *, within_s: float) -> Story:
        """Return the story once it is over: once faults stop, everything ends."""
        latest: list[Story] = []

        def look() -> bool:
            latest[:] = [self.story(pipeline)]
            return latest[0].is_over

        try:
            until(look, deadline_s=within_s, what=f"the end of {pipeline}", pause_s=0.25)
        except AssertionError as error:
            log = self._cloud.host.log_text()[-6000:]
            raise AssertionError(f"{error}: {latest[0] if latest else 'nothing'}\n{log}") from None
        return latest[0]

    def databricks_runs(self, pipeline: str) -> list[tuple[jobs.BaseRun, dict[str, str]]]:
        """Return every Databricks run of a pipeline with its parameters, by databricks-sdk."""
        found = []
        for run in self._cloud.workspace.client().jobs.list_runs(expand_tasks=False):
            given = {str(item.name): str(item.value) for item in run.job_parameters or []}
            if given.get("pipeline") == pipeline:
                found.append((run, given))
        return found

    def events_of(self, pipeline: str) -> dict[str, list[dict[str, Any]]]:
        """Return the completion events that reached the subscriber, by id, repeats included."""
        with self._lock, self._cloud.queues() as service:
            queue = service.get_queue_client("subscriber")
            for message in queue.receive_messages(visibility_timeout=600, messages_per_page=32):
                event = json.loads(base64.b64decode(message.content))
                self._events[event["id"]].append(event)
                queue.delete_message(message)
            return {id_: seen for id_, seen in self._events.items() if seen[0]["data"]["pipeline"] == pipeline}

    def check(self, pipeline: str, *, files: int, outcome: str, within_s: float) -> None:
        """Fail with every invariant that a pipeline's story broke, once it is over.

        Args:
            pipeline: Whose story; it has its own files.
            files: How many files were uploaded.
            outcome: How the undisturbed story ends: completed, or failed.
            within_s: For how long it may go on.
        """
        story = self.end_of(pipeline, within_s=within_s)
        announced = [f"{run['id']}.{run['attempt']}.{run['outcome']}" for run in story.runs]
        until(
            lambda: set(announced) <= self.events_of(pipeline).keys(),
            deadline_s=within_s,
            what=f"I5, the announcement of {announced}",
            pause_s=0.25,
        )
        broken = [
            *self._i1_i6(
                story, files, {run["id"]: self._outcome_of(pipeline, run, outcome) for run in story.runs}, outcome
            ),
            *self._i2(pipeline),
            *self._i3(pipeline),
            *(violation for run in story.runs for violation in self._i4_i7(pipeline, run)),
            *self._i5(pipeline, story),
            *self._i8(pipeline),
        ]
        assert not broken, f"{broken}; {story}"

    def given_up(self) -> list[str]:
        """Return what was quarantined, poisoned or dead-lettered."""
        found = [f"quarantined: {row['reason']}" for row in self._rows("marks", "PartitionKey eq 'quarantined'")]
        with self._cloud.queues() as queues:
            found += [f"queue {queue.name}" for queue in queues.list_queues() if str(queue.name).endswith("-poison")]
        with BlobServiceClient.from_connection_string(self._cloud.connection) as service:
            found += [f"blob {name}" for name in service.get_container_client("deadletter").list_blob_names()]
        return found

    def _outcome_of(self, pipeline: str, run: Mapping[str, Any], outcome: str) -> str:
        """Return how a run must have ended.

        A claim of success that Databricks does not confirm ends the run as failed, and only then is it not repeated.
        So a notebook or a workspace that dies between claim and end leaves two ways: the claim is heard first, or the
        death is. Stories overlap on one cloud: the one that died may have been the neighbour's victim.
        """
        if outcome == "failed" and run["outcome"] == "completed" and run["attempt"] > 1:
            return "completed"  # of the attempt after; I4 and I7 hold it to its scores and to what Databricks says
        claims = self.events_of(pipeline).get(f"{run['id']}.{run['attempt']}.completed", [])
        is_claimed = any(event["data"]["announced_by"] == "notebook" for event in claims)
        is_confirmed = jobs.RunResultState.SUCCESS in self._results(pipeline, run)
        return "failed" if is_claimed and not is_confirmed else outcome

    def _results(self, pipeline: str, run: Mapping[str, Any]) -> list[jobs.RunResultState | None]:
        """Return what Databricks says of a run's last attempt."""
        attempt = (run["id"], str(run["attempt"]))
        mine = [
            found for found, given in self.databricks_runs(pipeline) if (given["run_id"], given["attempt"]) == attempt
        ]
        return [found.state.result_state for found in mine if found.state is not None]

    @staticmethod
    def _i1_i6(story: Story, files: int, outcomes: Mapping[str, str], undisturbed: str) -> list[str]:
        by_path: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for arrival in story.arrivals:
            by_path[arrival["path"]].append(arrival)
        broken = [] if len(by_path) == files else [f"I1: {files} files, {len(by_path)} of them in the ledger"]
        for path, versions in by_path.items():
            etags = [version["etag"] for version in versions]
            if len(set(etags)) < len(etags):
                broken.append(f"I1: one version of {path!r} has two entries")
            # An upload that was repeated because its answer was lost is a newer version of the file.
            newest = max(versions, key=lambda version: str(version.get("sequencer")))
            outcome = outcomes.get(str(newest.get("run_id")), undisturbed)
            wanted = "scored" if outcome == "completed" else "failed"
            if newest["state"] != wanted:
                broken.append(f"I6: {path!r} is {newest['state']}, undisturbed it is {wanted}")
        broken += [f"I6: {run['id']} {run['outcome']}" for run in story.runs if run["outcome"] != outcomes[run["id"]]]
        return broken

    def _i2(self, pipeline: str) -> list[str]:
        broken, by_file = [], defaultdict(list)
        tokens: set[str] = set()
        for run, given in self.databricks_runs(pipeline):
            if given["token"] in tokens:
                broken.append(f"I2: two Databricks runs of attempt {given['attempt']} of {given['run_id']}")
            tokens.add(given["token"])
            for file in self._json(given["manifest_url"])["files"]:
                by_file[file["url"], file["etag"]].append((run.start_time or 0, run.end_time or 0, given["run_id"]))
        for file, spans in by_file.items():
            for (_, end, _), (start, _, _) in itertools.pairwise(sorted(spans)):
                if start < end or not end:
                    broken.append(f"I2: {file} was in two live runs: {sorted(spans)}")
        return broken

    def _i3(self, pipeline: str) -> list[str]:
        with self._lock:
            return [call for call in self._early_calls if pipeline in call]

    def _i4_i7(self, pipeline: str, run: Mapping[str, Any]) -> list[str]:
        if run["outcome"] != "completed":
            return []
        results = self._results(pipeline, run)
        broken = [] if results == [jobs.RunResultState.SUCCESS] else [f"I7: {run['id']} completed, {results}"]
        try:
            scores = self._json(f"{run['output_url']}/_manifest.json")
        except ResourceNotFoundError:
            return [*broken, f"I4: {run['id']} completed without scores"]
        is_whole = scores["rows_in"] == scores["rows_scored"] + scores["rows_quarantined"]
        if not is_whole or (scores["run_id"], scores["attempt"]) != (run["id"], run["attempt"]):
            broken.append(f"I4: {run['id']} completed with scores of {scores['run_id']}.{scores['attempt']}")
        return broken

    def _i5(self, pipeline: str, story: Story) -> list[str]:
        known = {run["id"]: run for run in story.runs}
        broken, outcomes = [], defaultdict(set)
        for id_, copies in self.events_of(pipeline).items():
            for event in copies:
                data = event["data"]
                if id_ != f"{data['run_id']}.{data['attempt']}.{data['outcome']}" or data["run_id"] not in known:
                    broken.append(f"I5: event {id_!r} is about {data['run_id']}.{data['attempt']}.{data['outcome']}")
                outcomes[data["run_id"], data["attempt"]].add(data["outcome"])
        for (run_id, attempt), said in outcomes.items():
            # A notebook's claim of success that Databricks does not confirm is taken back by one event more.
            if len(said) > 1 and said != {"completed", "failed"}:
                broken.append(f"I5: attempt {attempt} of {run_id} was announced as {sorted(said)}")
        return broken

    def _i8(self, pipeline: str) -> list[str]:
        outputs = self._rows("arrivals", "container eq 'scores'")
        return [
            f"I8: the output {row['path']!r} is {row['state']}"
            for row in outputs
            if row["path"].startswith(f"{pipeline}/") and (row["state"] != "ignored" or row.get("run_id"))
        ]

    def _look_at_submission(self, seen: Seen) -> None:
        """Ask the ledger for the token at the moment in which a call is about to carry it."""
        if seen.door is not Door.WORKSPACE or seen.method != "POST" or not seen.path.endswith("/jobs/run-now"):
            return
        call = json.loads(seen.body)
        run_id, token = call["job_parameters"]["run_id"], call["idempotency_token"]
        rows = self._insist(lambda: self._rows("runs", f"id eq '{run_id}'"))
        if [row.get("token") for row in rows] != [token]:
            with self._lock:
                self._early_calls.append(f"I3: {run_id} was submitted before its token was persisted")

    @staticmethod
    def _insist[T](ask: Callable[[], T]) -> T:
        """Return the answer, asking until the storage that was killed is there again."""
        answers: list[T] = []

        def has_answered() -> bool:
            try:
                answers.append(ask())
            except AzureError:
                return False
            return True

        until(has_answered, deadline_s=60, what="an answer of the ledger", pause_s=0.1)
        return answers[0]

    def _rows(self, table: str, condition: str) -> list[Mapping[str, Any]]:
        with self._cloud.tables() as service:
            try:
                return list(service.get_table_client(_PREFIX + table).query_entities(condition))
            except ResourceNotFoundError:  # nobody has written to it yet
                return []

    def _json(self, url: str) -> dict[str, Any]:
        container, path = url.split("/", 4)[3:]
        with BlobServiceClient.from_connection_string(self._cloud.connection) as service:
            document: dict[str, Any] = json.loads(service.get_blob_client(container, path).download_blob().readall())
        return document

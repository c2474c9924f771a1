"""Plays Databricks and the notebooks in it: what a run does, what it reports, and what Databricks says of it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Final

from functions.core.databricks_states import status_of
from functions.core.lineage import OutputsRef, RefusedFile, RefusedRef, file_digest
from functions.core.manifest import InputManifest, ManifestFile
from functions.core.model import DatabricksJobId, DatabricksRunId, IdempotencyToken, JobKey, Outcome
from functions.core.tokens import arrival_id_of
from tests.simulation.host import Host
from tests.simulation.outside import Outside
from tests.support.control_plane import MODEL, World
from tests.support.in_memory import DatabricksRun, Faults, InMemoryWorkspace

__all__ = ["Fate", "Notebooks", "SimulatedWorkspace", "Truth"]


class SimulatedWorkspace(InMemoryWorkspace):
    """The workspace as one process sees it: copies share everything but whether the process has signed in."""

    is_warm = False

    def __init__(self, faults: Faults, on_submit: Callable[[str, Mapping[str, str]], None]) -> None:
        super().__init__(faults=faults)
        self._on_submit = on_submit

    def submit(self, job: JobKey, token: IdempotencyToken, parameters: Mapping[str, str]) -> DatabricksRunId:
        """Return the run of this token, starting it if there is none."""
        self._on_submit(token, parameters)
        return super().submit(job, token, parameters)

    def repair(self, run: DatabricksRunId, parameters: Mapping[str, str], *, after: int) -> None:
        """Have the failed tasks done again; such a call carries the attempt's token too."""
        self._on_submit(IdempotencyToken(parameters["token"]), parameters)
        super().repair(run, parameters, after=after)

    def find_job(self, job: JobKey) -> DatabricksJobId:
        """Return the one job of this name; from then on the process is warm."""
        found = super().find_job(job)
        self.is_warm = True
        return found

    def cancel(self, run: DatabricksRunId) -> None:
        """Ask for a run to be cancelled; it goes on for a while, and may even succeed."""
        with self.calls.effect("workspace.cancel"):
            if run in self.runs and self.runs[run].status.verdict.is_open:
                self.runs[run].status = status_of("TERMINATING")


class Truth(StrEnum):
    """What really became of a Databricks run, whatever anyone says."""

    OPEN = "open"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNKNOWN = "unknown"  # Databricks answers with a state that nobody has declared


class Fate(StrEnum):
    """What a Databricks run does next."""

    WORK = "does its work, reports, ends well"
    WORK_SILENTLY = "does its work and ends well, but its report is lost"
    WORK_REPORTING_TWICE = "does its work, its report is delivered twice, ends well"
    PUBLISH = "publishes what it made"
    REPORT = "reports success and is not over"
    END_WELL = "ends well without another word"
    RAISE = "raises, reports it, fails"
    REFUSE = "calls one file unreadable that is not, fails"
    DIE = "is killed before it could publish or report"
    LOSE_CLUSTER = "loses its cluster"
    BE_SKIPPED = "is skipped"
    WAIT_IN_QUEUE = "waits in Databricks' queue"
    TIME_OUT = "runs into its time-out"
    BE_CANCELLED = "is cancelled by hand"
    END_UNKNOWN = "does its work and ends in a state that nobody knows"
    LIE = "reports success and ends well, having published nothing"
    PUBLISH_NONSENSE = "publishes scores that do not add up, reports success, ends well"
    REPORT_THEN_DIE = "does its work, reports success, and then its cluster dies"
    REPORT_LATE = "delivers its report once more, whatever it is by now"


_ALL: Final = tuple(Fate)
# What an undisturbed end may be reached through, by itself.
_CALM: Final = (
    Fate.WORK,
    Fate.WORK,
    Fate.WORK_SILENTLY,
    Fate.WORK_REPORTING_TWICE,
    Fate.PUBLISH,
    Fate.WAIT_IN_QUEUE,
    Fate.LOSE_CLUSTER,
    Fate.BE_SKIPPED,
)


class Notebooks:
    """Lets Databricks runs meet their fates, and remembers the truth."""

    def __init__(self, world: World, host: Host, outside: Outside, *, outputs_make_events: bool) -> None:
        self._world = world
        self._host = host
        self._outside = outside
        self._outputs_make_events = outputs_make_events
        self.truths: dict[DatabricksRunId, Truth] = {}
        self.proven: set[str] = set()  # where complete and correct scores were published
        self.announced: set[str] = set()  # ids of completion events that notebooks gave to the topic
        self._reports: dict[DatabricksRunId, list[bytes]] = {}
        self._versions = 7

    def truth_of(self, run: DatabricksRunId) -> Truth:
        """Return what really became of a Databricks run."""
        return self.truths.get(run, Truth.OPEN)

    def usual_fate(self, run: DatabricksRun) -> Fate:
        """Return what becomes of a run when nothing goes wrong any more."""
        return Fate.BE_CANCELLED if run.status.life_cycle_state == "TERMINATING" else Fate.WORK

    def fate(self, choice: int, run: DatabricksRun, *, is_calm: bool) -> Fate:
        """Return the fate that a number chooses; in a calm schedule none that ends a run for good without scores."""
        if not is_calm:
            return _ALL[choice % len(_ALL)]
        fate = _CALM[choice % len(_CALM)]
        may_fail = self._may_fail(run)
        return fate if may_fail or fate not in {Fate.LOSE_CLUSTER, Fate.BE_SKIPPED} else Fate.WORK

    def _may_fail(self, run: DatabricksRun) -> bool:
        pipeline = self._world.pipelines.by_key.get(self._world.completion_of(run, Outcome.COMPLETED).pipeline)
        return pipeline is not None and int(run.parameters["attempt"]) < pipeline.max_attempts

    def meet(self, run: DatabricksRun, fate: Fate) -> None:
        """Let a run do or suffer something; one that is over only has its report delivered again."""
        if fate is Fate.REPORT_LATE:
            for body in self._reports.get(run.id, [])[:1]:
                self._host.send("completions", body)
            return
        if not run.status.verdict.is_open:
            return
        match fate:
            case Fate.WORK | Fate.WORK_SILENTLY | Fate.WORK_REPORTING_TWICE | Fate.END_UNKNOWN | Fate.REPORT_THEN_DIE:
                self._work(run, fate)
            case Fate.PUBLISH:
                self._publish(run)
            case Fate.REPORT:
                self._publish(run)
                self._report(run, Outcome.COMPLETED)
            case Fate.LIE:
                self._report(run, Outcome.COMPLETED, is_lie=True)
                self._end(run, "TERMINATED", "SUCCESS", "SUCCESS", Truth.SUCCEEDED)
            case Fate.PUBLISH_NONSENSE:
                self._publish(run, rows_scored=8)
                self._report(run, Outcome.COMPLETED)
                self._end(run, "TERMINATED", "SUCCESS", "SUCCESS", Truth.SUCCEEDED)
            case Fate.RAISE:
                self._report(run, Outcome.FAILED)
                self._end(run, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR", Truth.FAILED)
            case _:
                self._suffer(run, fate)

    def _work(self, run: DatabricksRun, fate: Fate) -> None:
        if unreadable := self._unreadable_in(run):
            self._refuse(run, unreadable)  # its report always comes through: what is lost has a fate of its own
            return
        self._publish(run)
        if fate in {Fate.WORK, Fate.WORK_REPORTING_TWICE, Fate.REPORT_THEN_DIE}:
            self._report(run, Outcome.COMPLETED, copies=2 if fate is Fate.WORK_REPORTING_TWICE else 1)
        if fate is Fate.WORK_SILENTLY:
            self._report(run, Outcome.COMPLETED, copies=0)
        if fate is Fate.END_UNKNOWN:
            self._end(run, "TERMINATED", "LEVITATED", "", Truth.UNKNOWN)
        elif fate is Fate.REPORT_THEN_DIE:
            self._end(run, "INTERNAL_ERROR", "FAILED", "DRIVER_ERROR", Truth.FAILED)
        else:
            self._end(run, "TERMINATED", "SUCCESS", "SUCCESS", Truth.SUCCEEDED)

    def _refuse(self, run: DatabricksRun, files: list[ManifestFile]) -> None:
        """Report that these files are to blame, as if an event had room to name one of them, and fail."""
        refused = RefusedRef(
            file_count=len(files),
            files=tuple(
                RefusedFile(url=file.blob.url, etag=file.blob.etag, reason="no Parquet file") for file in files[:1]
            ),
            others=tuple(file_digest(file.blob.url, file.blob.etag) for file in files[1:]),
        )
        self._report(run, Outcome.FAILED, refused=refused if files else None)
        self._end(run, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR", Truth.FAILED)

    def _files_of(self, run: DatabricksRun) -> list[ManifestFile]:
        data = self._world.manifests.blobs.get(run.parameters["manifest_url"])
        return [] if data is None else [*InputManifest.from_bytes(data).files]

    def _unreadable_in(self, run: DatabricksRun) -> list[ManifestFile]:
        if run.parameters["kind"] != "scoring":
            return []
        return [file for file in self._files_of(run) if arrival_id_of(file.blob) in self._outside.unreadable]

    def _suffer(self, run: DatabricksRun, fate: Fate) -> None:
        match fate:
            case Fate.REFUSE:
                self._refuse(run, self._files_of(run)[:1])
            case Fate.END_WELL:
                self._end(run, "TERMINATED", "SUCCESS", "SUCCESS", Truth.SUCCEEDED)
            case Fate.DIE:
                self._end(run, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR", Truth.FAILED)
            case Fate.LOSE_CLUSTER:
                self._end(run, "INTERNAL_ERROR", "FAILED", "CLOUD_FAILURE", Truth.FAILED)
            case Fate.BE_SKIPPED:
                self._end(run, "SKIPPED", "MAXIMUM_CONCURRENT_RUNS_REACHED", "SKIPPED", Truth.FAILED)
            case Fate.TIME_OUT:
                self._end(run, "TERMINATED", "TIMEDOUT", "", Truth.FAILED)
            case Fate.BE_CANCELLED:
                self._end(run, "TERMINATED", "CANCELED", "USER_CANCELED", Truth.FAILED)
            case Fate.WAIT_IN_QUEUE:
                run.status = status_of("QUEUED")
            case _:
                raise AssertionError(fate)

    def _publish(self, run: DatabricksRun, **changes: object) -> None:
        """Write the scores' manifest, or register the model and move its alias."""
        url = run.parameters["output_url"]
        if run.parameters["kind"] == "training":
            self._versions += 1
            self._world.workspace.models[MODEL, "champion"] = str(self._versions)
            return
        if self._world.manifests.blobs.get(run.parameters["manifest_url"]) is None:
            return  # a notebook cannot score files that nobody lists
        if self._unreadable_in(run):
            return
        self._world.publish_scores(run, **changes)
        if not changes:
            self.proven.add(url)
        if self._outputs_make_events:
            self._outside.announce_output(f"{url}/part-0.parquet")
            self._outside.announce_output(f"{url}/_manifest.json")

    def _report(
        self,
        run: DatabricksRun,
        outcome: Outcome,
        *,
        copies: int = 1,
        is_lie: bool = False,
        refused: RefusedRef | None = None,
    ) -> None:
        """Give the completion event to the topic; so many copies of it reach our own queue."""
        event = self._world.completion_of(run, outcome)
        if outcome is not Outcome.COMPLETED:
            event = replace(event, outputs=None, refused=refused)
        elif is_lie and run.parameters["kind"] == "scoring":
            url = run.parameters["output_url"]
            event = replace(
                event,
                outputs=OutputsRef(
                    scores_url=url,
                    manifest_url=f"{url}/_manifest.json",
                    manifest_sha256="0" * 64,
                    rows_in=10,
                    rows_scored=10,
                    rows_quarantined=0,
                ),
            )
        self.announced.add(event.id)
        body = event.to_json().encode()
        if refused is not None:
            self._outside.readable.add(body)  # an operator has it replayed, if it was given up
        self._reports.setdefault(run.id, []).append(body)
        for _ in range(copies):
            self._host.send("completions", body)

    def _end(self, run: DatabricksRun, life_cycle: str, result: str, code: str, truth: Truth) -> None:
        run.status = status_of(life_cycle, result, code)
        self.truths[run.id] = truth

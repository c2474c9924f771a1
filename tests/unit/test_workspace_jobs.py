"""The Jobs engine's rules, tried with notebooks that end when the test says so and a clock that it turns."""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from local.databricks.workspace.database import open_database
from local.databricks.workspace.jobs.driver import DriverTools
from local.databricks.workspace.jobs.engine import JobsEngine
from local.databricks.workspace.jobs.errors import DeletedRunTokenError, InvalidSettingsError, RepairRefusedError
from local.databricks.workspace.jobs.launcher import NotebookCrash, NotebookOutcome, NotebookRequest, NotebookResult
from local.databricks.workspace.jobs.repair import RepairRequest
from local.databricks.workspace.jobs.runs import Overrides, Run
from local.databricks.workspace.jobs.states import LifeCycle, Result, Termination
from local.databricks.workspace.jobs.store import JobStore

SUCCESS = NotebookResult(succeeded=True, exit_value="done")
FAILURE = NotebookResult(succeeded=False, error="ValueError: no", error_trace="Traceback")


class TurnedClock:
    """Stands still until the test turns it."""

    def __init__(self) -> None:
        self.milliseconds = 1_700_000_000_000
        self._sleepers: list[tuple[int, asyncio.Future[None]]] = []

    def now_ms(self) -> int:
        return self.milliseconds

    async def sleep(self, seconds: float) -> None:
        wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.milliseconds + round(seconds * 1000), wake))
        await wake

    async def turn(self, seconds: float) -> None:
        self.milliseconds += round(seconds * 1000)
        for at, wake in self._sleepers:
            if at <= self.milliseconds and not wake.done():
                wake.set_result(None)
        await settle()


@dataclass
class HeldNotebook:
    """A started notebook that runs until the test ends it."""

    request: NotebookRequest
    ended: asyncio.Future[NotebookOutcome]
    was_stopped: bool = False

    async def wait(self) -> NotebookOutcome:
        return await asyncio.shield(self.ended)

    async def stop(self) -> None:
        self.was_stopped = True

    def kill(self) -> None:
        self.ended.set_result(NotebookCrash(reason="signal SIGKILL"))

    async def end(self, outcome: NotebookOutcome = SUCCESS) -> None:
        self.ended.set_result(outcome)
        await settle()


@dataclass
class HeldLauncher:
    """Starts notebooks that the test ends."""

    started: list[HeldNotebook] = field(default_factory=list)

    async def start(self, request: NotebookRequest) -> HeldNotebook:
        notebook = HeldNotebook(request, asyncio.get_running_loop().create_future())
        self.started.append(notebook)
        return notebook

    def of(self, task_key: str) -> HeldNotebook:
        return [notebook for notebook in self.started if notebook.request.task_key == task_key][-1]


class World:
    """An engine on a database, with everything else held by the test."""

    def __init__(self, database: sqlite3.Connection, *, slots: int = 10) -> None:
        self.clock = TurnedClock()
        self.launcher = HeldLauncher()
        self.store = JobStore(database)
        self.engine = JobsEngine(
            DriverTools(
                store=self.store,
                launcher=self.launcher,
                clock=self.clock,
                slots=asyncio.Semaphore(slots),
                find_notebook=lambda path: None if path == "/missing" else Path(f"/disk{path}.py"),
                environment_of=lambda task: dict(task.environment),
                workspace_id="1",
                workspace_url="http://here",
            )
        )

    def job(self, *tasks: dict[str, Any], **settings: Any) -> int:
        document = {"name": "nightly", "tasks": list(tasks) or [task("only")], **settings}
        return self.engine.create_job(document, flat=False, queue_by_default=False).job_id

    async def run(self, job_id: int, token: str = "", **overrides: Any) -> Run:
        run = self.engine.run_now(job_id, Overrides(**overrides), token)
        await settle()
        return self.now(run)

    def now(self, run: Run) -> Run:
        return self.store.get_run(run.run_id)


def task(key: str, *upstream: str, **settings: Any) -> dict[str, Any]:
    return {
        "task_key": key,
        "notebook_task": {"notebook_path": f"/{key}"},
        "depends_on": [{"task_key": other} for other in upstream],
        **settings,
    }


async def settle() -> None:
    """Let everything run that can run."""
    for _ in range(30):
        await asyncio.sleep(0)


type Scenario = Callable[[World], Coroutine[Any, Any, None]]


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Scenario], None]:
    """Give a function that plays a scenario in a fresh world."""

    def play_it(scenario: Scenario) -> None:
        async def body() -> None:
            database = open_database(tmp_path / "workspace.db")
            world = World(database)
            try:
                await scenario(world)
            finally:
                await world.engine.close()
                database.close()

        asyncio.run(body())

    return play_it


def test_a_run_goes_from_pending_through_running_to_success(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        run = world.engine.run_now(world.job(), Overrides(), "")
        assert run.state.life_cycle is LifeCycle.PENDING
        await settle()
        assert world.now(run).state.life_cycle is LifeCycle.RUNNING

        await world.launcher.of("only").end()

        ended = world.now(run)
        assert (ended.state.life_cycle, ended.state.result, ended.state.code) == (
            LifeCycle.TERMINATED,
            Result.SUCCESS,
            Termination.SUCCESS,
        )
        assert ended.tasks[0].exit_value == "done"

    play(scenario)


def test_a_token_names_one_run_whatever_else_the_request_says(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        job_id = world.job(max_concurrent_runs=5)
        first = await world.run(job_id, "token", job_parameters={"a": "1"})

        second = await world.run(job_id, "token", job_parameters={"a": "2"})

        assert second.run_id == first.run_id
        assert len(world.launcher.started) == 1

    play(scenario)


def test_the_token_of_a_deleted_run_stays_taken(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        job_id = world.job()
        run = await world.run(job_id, "token")
        await world.launcher.of("only").end()
        world.engine.delete_run(run.run_id)

        with pytest.raises(DeletedRunTokenError):
            await world.run(job_id, "token")

    play(scenario)


def test_a_token_longer_than_64_characters_is_refused(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        job_id = world.job()

        with pytest.raises(InvalidSettingsError, match="64 characters"):
            await world.run(job_id, "x" * 65)

    play(scenario)


def test_beyond_the_limit_a_run_is_skipped(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        job_id = world.job(max_concurrent_runs=1)
        await world.run(job_id)

        second = await world.run(job_id)

        assert second.state.life_cycle is LifeCycle.SKIPPED
        assert second.state.result is Result.MAXIMUM_CONCURRENT_RUNS_REACHED
        assert second.state.code is Termination.MAX_CONCURRENT_RUNS_EXCEEDED

    play(scenario)


def test_with_a_queue_runs_wait_in_order(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        job_id = world.job(max_concurrent_runs=1, queue={"enabled": True})
        first, second, third = [await world.run(job_id) for _ in range(3)]
        assert [run.state.life_cycle for run in (second, third)] == [LifeCycle.QUEUED, LifeCycle.QUEUED]

        await world.launcher.started[0].end()

        assert world.now(first).state.is_terminal
        assert world.now(second).state.life_cycle is LifeCycle.RUNNING
        assert world.now(third).state.life_cycle is LifeCycle.QUEUED

    play(scenario)


def test_a_limit_of_zero_skips_even_with_a_queue(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        run = await world.run(world.job(max_concurrent_runs=0, queue={"enabled": True}))

        assert run.state.life_cycle is LifeCycle.SKIPPED

    play(scenario)


def test_the_caller_of_run_now_may_ask_for_the_queue(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        job_id = world.job()
        await world.run(job_id)

        second = await world.run(job_id, queue_enabled=True)

        assert second.state.life_cycle is LifeCycle.QUEUED

    play(scenario)


def test_a_run_that_takes_too_long_is_stopped(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        run = await world.run(world.job(timeout_seconds=60))

        await world.clock.turn(61)

        ended = world.now(run)
        assert (ended.state.result, ended.state.code) == (Result.TIMEDOUT, Termination.CANCELED)
        assert ended.state.was_stopped
        assert world.launcher.of("only").was_stopped

    play(scenario)


def test_a_task_that_takes_too_long_is_not_retried_unless_asked(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        run = await world.run(world.job(task("only", timeout_seconds=5, max_retries=1)))

        await world.clock.turn(6)

        assert world.now(run).state.result is Result.TIMEDOUT
        assert len(world.launcher.started) == 1

    play(scenario)


def test_a_task_that_takes_too_long_is_retried_if_asked(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        run = await world.run(world.job(task("only", timeout_seconds=5, max_retries=1, retry_on_timeout=True)))

        await world.clock.turn(6)
        await world.launcher.of("only").end()

        assert world.now(run).state.result is Result.SUCCESS
        assert [attempt.attempt_number for attempt in world.now(run).tasks] == [0, 1]

    play(scenario)


def test_a_cancelled_run_stops_its_notebook(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        run = await world.run(world.job(task("first"), task("second", "first")))

        world.engine.cancel(run.run_id)
        assert world.now(run).state.life_cycle is LifeCycle.TERMINATING
        await settle()

        ended = world.now(run)
        assert (ended.state.result, ended.state.code) == (Result.CANCELED, Termination.USER_CANCELED)
        assert {attempt.state.result for attempt in ended.tasks} == {Result.CANCELED}
        assert world.launcher.of("first").was_stopped

    play(scenario)


def test_cancelling_an_ended_run_changes_nothing(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        run = await world.run(world.job())
        await world.launcher.of("only").end()

        world.engine.cancel(run.run_id)

        assert world.now(run).state.result is Result.SUCCESS

    play(scenario)


def test_a_queued_run_can_be_cancelled(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        job_id = world.job(queue={"enabled": True})
        await world.run(job_id)
        queued = await world.run(job_id)

        world.engine.cancel(queued.run_id)

        assert world.now(queued).state.result is Result.CANCELED

    play(scenario)


def test_retries_are_counted_from_start_to_start(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        job_id = world.job(task("only", max_retries=2, min_retry_interval_millis=10_000))
        run = await world.run(job_id)
        await world.clock.turn(4)

        await world.launcher.of("only").end(FAILURE)
        assert world.now(run).tasks[-1].state.life_cycle is LifeCycle.WAITING_FOR_RETRY
        await world.clock.turn(5)
        assert len(world.launcher.started) == 1
        await world.clock.turn(1)

        assert len(world.launcher.started) == 2
        assert world.now(run).tasks[1].original_attempt_run_id == world.now(run).tasks[0].task_run_id

    play(scenario)


def test_a_crashed_driver_is_an_internal_error_and_retried(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        run = await world.run(world.job(task("only", max_retries=1)))

        world.launcher.of("only").kill()
        await settle()

        assert world.now(run).tasks[0].state.life_cycle is LifeCycle.INTERNAL_ERROR
        assert world.now(run).tasks[0].state.code is Termination.DRIVER_ERROR
        assert len(world.launcher.started) == 2

    play(scenario)


def test_a_missing_notebook_is_an_internal_error(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        run = await world.run(world.job(task("missing")))

        assert run.state.life_cycle is LifeCycle.INTERNAL_ERROR
        assert run.state.code is Termination.RESOURCE_NOT_FOUND

    play(scenario)


def test_a_failed_task_keeps_the_ones_after_it_from_running(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        run = await world.run(
            world.job(task("first"), task("second", "first"), task("clean", "first", run_if="ALL_DONE"))
        )

        await world.launcher.of("first").end(FAILURE)
        await world.launcher.of("clean").end()

        ended = world.now(run)
        assert {a.task_key: a.state.result for a in ended.tasks} == {
            "first": Result.FAILED,
            "second": Result.UPSTREAM_FAILED,
            "clean": Result.SUCCESS,
        }
        assert ended.state.result is Result.FAILED
        assert "Task first failed with message: Workload failed, see run output for details." in ended.state.message

    play(scenario)


def test_a_failure_that_a_later_task_handled_is_success_with_failures(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        run = await world.run(world.job(task("first"), task("mend", "first", run_if="AT_LEAST_ONE_FAILED")))

        await world.launcher.of("first").end(FAILURE)
        await world.launcher.of("mend").end()

        assert world.now(run).state.result is Result.SUCCESS_WITH_FAILURES

    play(scenario)


def test_independent_tasks_share_the_slots(tmp_path: Path) -> None:
    async def body() -> None:
        database = open_database(tmp_path / "workspace.db")
        world = World(database, slots=1)
        run = await world.run(world.job(task("one"), task("two")))
        assert [a.state.life_cycle for a in run.tasks] == [LifeCycle.RUNNING, LifeCycle.PENDING]

        await world.launcher.of("one").end()

        assert [a.state.life_cycle for a in world.now(run).tasks] == [LifeCycle.TERMINATED, LifeCycle.RUNNING]
        await world.engine.close()
        database.close()

    asyncio.run(body())


def test_task_values_reach_later_tasks(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        later = task("later", "first")
        later["notebook_task"]["base_parameters"] = {
            "rows": "{{tasks.first.values.rows}}",
            "odd": "{{tasks.x.values.y}}",
        }
        await world.run(world.job(task("first"), later))

        await world.launcher.of("first").end(NotebookResult(succeeded=True, task_values={"rows": 12}))

        request = world.launcher.of("later").request
        assert request.task_values["first"] == {"rows": 12}
        assert request.parameters == {"rows": "12", "odd": "{{tasks.x.values.y}}"}

    play(scenario)


def test_job_parameters_win_over_all_others(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        only = task("only")
        only["notebook_task"]["base_parameters"] = {"a": "base", "b": "base", "c": "base", "id": "{{ job.run_id }}"}
        job_id = world.job(only, parameters=[{"name": "a", "default": "job"}])

        run = await world.run(
            job_id, notebook_params={"a": "caller", "b": "caller"}, job_parameters={"a": "named", "extra": "yes"}
        )

        assert world.launcher.of("only").request.parameters == {
            "a": "named",
            "b": "caller",
            "c": "base",
            "id": str(run.run_id),
            "extra": "yes",
        }

    play(scenario)


def test_parameters_beyond_10000_bytes_are_refused(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        job_id = world.job()

        with pytest.raises(InvalidSettingsError, match="10000 bytes"):
            await world.run(job_id, job_parameters={"a": "x" * 10_000})

    play(scenario)


def test_a_restart_ends_live_runs_and_keeps_queued_ones(tmp_path: Path) -> None:
    """A process that dies leaves its runs live in the database; the next one says what became of them."""

    async def before() -> tuple[int, int]:
        database = open_database(tmp_path / "workspace.db")
        world = World(database)
        job_id = world.job(queue={"enabled": True})
        live, queued = await world.run(job_id, "live"), await world.run(job_id, "queued")
        database.close()  # and the process is gone
        return live.run_id, queued.run_id

    async def after(live: int, queued: int) -> None:
        database = open_database(tmp_path / "workspace.db")
        world = World(database)
        world.engine.resume()
        await settle()
        assert world.store.get_run(live).state.life_cycle is LifeCycle.INTERNAL_ERROR
        assert world.store.get_run(queued).state.life_cycle is LifeCycle.RUNNING
        assert world.store.find_by_token("live") == live
        await world.engine.close()
        database.close()

    asyncio.run(after(*asyncio.run(before())))


def test_a_repair_runs_failed_tasks_again_in_the_same_run(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        run = await world.run(world.job(task("good"), task("bad"), task("after", "bad")))
        await world.launcher.of("good").end()
        await world.launcher.of("bad").end(FAILURE)

        world.engine.repair(RepairRequest(run_id=run.run_id, all_failed=True))
        await settle()
        await world.launcher.of("bad").end()
        await world.launcher.of("after").end()

        assert world.now(run).state.result is Result.SUCCESS
        assert [n.request.task_key for n in world.launcher.started] == ["good", "bad", "bad", "after"]
        with pytest.raises(RepairRefusedError, match="latest repair ID"):
            world.engine.repair(RepairRequest(run_id=run.run_id, all_failed=True))

    play(scenario)


def test_only_runs_the_named_tasks(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        run = await world.run(world.job(task("first"), task("second", "first")), only=("second",))

        assert [attempt.task_key for attempt in run.tasks] == ["second"]
        assert run.state.life_cycle is LifeCycle.RUNNING

    play(scenario)

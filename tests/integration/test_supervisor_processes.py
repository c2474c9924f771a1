"""Tests that the supervisor keeps its services alive and leaves none behind, whatever happens to it."""

import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from local.cloud import Cloud
from local.supervisor.status import CloudState, ServiceState, holder_of
from tests.support.tiny_cloud import TinyCloud, until

pytestmark = pytest.mark.integration

MakeCloud = Callable[..., TinyCloud]


@pytest.fixture
def make_cloud(tmp_path: Path) -> Iterator[MakeCloud]:
    made: list[TinyCloud] = []

    def make(name: str = "one", *, broken: bool = False, environ: dict[str, str] | None = None) -> TinyCloud:
        made.append(TinyCloud(tmp_path / name, broken=broken, environ=environ))
        return made[-1]

    yield make
    for cloud in made:
        cloud.end()


def _is_gone(pids: dict[str, int]) -> bool:
    return not any(map(_is_running, pids.values()))


def _is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it may end while it is looked at
        return False


def _all_pids(cloud: TinyCloud) -> dict[str, int]:
    return {f"{name}.{what}": pid for name in ("first", "second") for what, pid in cloud.pids(name).items()}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_nothing_is_left_behind_however_the_supervisor_ends(make_cloud: MakeCloud, number: signal.Signals) -> None:
    """Services, leashes and what services started in sessions of their own all end with the supervisor."""
    cloud = make_cloud()
    cloud.await_state(CloudState.READY)
    pids = _all_pids(cloud)

    os.kill(cloud.process.pid, number)
    cloud.process.wait(timeout=30)

    until(lambda: _is_gone(pids), what="every process ended", timeout_s=15)
    assert len(pids) == 6


def test_a_service_that_dies_is_started_again_and_its_own_processes_end(make_cloud: MakeCloud) -> None:
    cloud = make_cloud()
    cloud.await_state(CloudState.READY)
    before = cloud.pids("second")

    os.kill(before["service"], signal.SIGKILL)

    def is_back() -> bool:
        status = cloud.status()
        second = status.services["second"] if status else None
        return second is not None and second.state is ServiceState.READY and second.pid not in {None, before["service"]}

    until(is_back, what="the service is ready again")
    status = cloud.status()
    assert status is not None
    assert (status.services["first"].restarts, status.services["second"].restarts) == (0, 1)
    assert _is_gone(before)


def test_killing_a_leash_ends_its_service_which_is_started_again(make_cloud: MakeCloud) -> None:
    cloud = make_cloud()
    cloud.await_state(CloudState.READY)
    before = cloud.pids("first")

    os.kill(before["leash"], signal.SIGKILL)

    until(lambda: not psutil.pid_exists(before["service"]), what="the old service ended")
    until(lambda: cloud.pids("first")["service"] != before["service"], what="a new service runs")
    until(lambda: (status := cloud.status()) is not None and status.services["first"].restarts == 1, what="it is told")
    status = cloud.status()
    # What it had started outside its group is out of reach once the leash itself is killed: end it here.
    os.kill(before["started"], signal.SIGKILL)
    assert status is not None
    assert status.services["second"].restarts == 0


def test_a_service_that_never_gets_ready_fails_the_start_and_leaves_nothing(make_cloud: MakeCloud) -> None:
    cloud = make_cloud(broken=True)

    status = cloud.await_state(CloudState.FAILED)
    code = cloud.process.wait(timeout=30)

    assert code == 1
    assert "second ended with exit code 1 before it was ready" in status.message
    assert "this service is broken on purpose" in Cloud(state_dir=cloud.folders.state_dir).log_tail("second")
    assert holder_of(cloud.folders.leash_lock) is None


def test_a_wanted_port_that_is_taken_fails_the_start_with_a_sentence(make_cloud: MakeCloud) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        port = other.getsockname()[1]

        cloud = make_cloud(environ={"TIDEGATE_PORT_QUEUE": str(port)})
        status = cloud.await_state(CloudState.FAILED)

    assert f"port {port} for queue (wanted by TIDEGATE_PORT_QUEUE) is taken by another program" in status.message


def test_two_clouds_run_at_once_on_ports_of_their_own(make_cloud: MakeCloud) -> None:
    one, other = make_cloud("one"), make_cloud("other")

    urls = [service.url for cloud in (one, other) for service in cloud.await_state(CloudState.READY).services.values()]

    assert len(set(urls)) == 4
    assert all(url.startswith("http://127.0.0.1:") for url in urls)


def test_a_second_supervisor_of_the_same_cloud_gives_way(make_cloud: MakeCloud) -> None:
    first = make_cloud()
    first.await_state(CloudState.READY)

    second = make_cloud()

    assert second.process.wait(timeout=30) == 75
    status = first.status()
    assert status is not None
    assert status.supervisor_pid == first.process.pid


def test_ports_and_secrets_are_remembered_and_private(make_cloud: MakeCloud) -> None:
    first = make_cloud()
    first.await_state(CloudState.READY)
    cloud = Cloud(state_dir=first.folders.state_dir)
    before = cloud.settings()
    first.end()

    make_cloud().await_state(CloudState.READY)

    assert cloud.settings() == before
    assert cloud.folders.settings.stat().st_mode & 0o777 == 0o600
    assert cloud.folders.state_dir.stat().st_mode & 0o777 == 0o700


def test_a_supervisor_started_after_a_killed_one_waits_for_its_services_to_end(make_cloud: MakeCloud) -> None:
    first = make_cloud()
    first.await_state(CloudState.READY)
    before = _all_pids(first)

    os.kill(first.process.pid, signal.SIGKILL)
    first.process.wait(timeout=30)
    second = make_cloud()
    status = second.await_state(CloudState.READY)

    assert _is_gone(before)
    assert all(service.restarts == 0 for service in status.services.values())


def test_removing_the_state_folder_ends_the_cloud(make_cloud: MakeCloud) -> None:
    """Nobody could stop it any more: its pid and its lock went with the folder."""
    cloud = make_cloud()
    cloud.await_state(CloudState.READY)
    pids = _all_pids(cloud)

    shutil.rmtree(cloud.folders.state_dir)

    cloud.process.wait(timeout=30)
    assert _is_gone(pids)


def test_a_stale_pid_of_a_living_program_is_not_taken_for_the_supervisor(tmp_path: Path) -> None:
    cloud = Cloud(state_dir=tmp_path)
    cloud.folders.make()
    cloud.folders.supervisor_lock.write_text(str(os.getpid()))

    was_running = cloud.down()

    assert not was_running
    assert not cloud.is_running()

"""Starts the Event Grid emulator as the local cloud does: a process of its own, with a configuration file."""

import json
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from tests.support.azurite import Azurite
from tests.support.leash import leashed_command

__all__ = ["EventGrid", "eventually", "make_config", "running_event_grid"]

_REPOSITORY = Path(__file__).parents[2]
TOPIC_KEY = "dGlkZWdhdGUtdG9waWMta2V5LW9mLXRoZS10ZXN0cw=="
_START_DEADLINE_S = 30.0


@dataclass(slots=True, kw_only=True)
class EventGrid:
    """A running emulator."""

    process: "subprocess.Popen[str]"
    url: str
    proxy_port: int
    account: str
    log: list[str] = field(default_factory=list[str])

    @property
    def blob_endpoint(self) -> str:
        """The storage proxy's path-style endpoint, with the account."""
        return f"http://127.0.0.1:{self.proxy_port}/{self.account}"

    def topic_endpoint(self, name: str) -> str:
        """What a publisher's client takes."""
        return f"{self.url}/topics/{name}/api/events"

    def kill(self) -> None:
        """End it as a crash does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """End it as the supervisor does, and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=5)


def make_config(azurite: Azurite, **changes: object) -> dict[str, Any]:
    """Return a configuration that points at this Azurite; `changes` replace or add fields."""
    return {
        "account": azurite.account,
        "account_key": azurite.key,
        "azurite_blob": f"http://127.0.0.1:{azurite.blob_port}",
        "queue_endpoint": azurite.queue_endpoint,
        "topics": [],
        "subscriptions": [],
        **changes,
    }


@contextmanager
def running_event_grid(
    config: Mapping[str, object], folder: Path, *, port: int = 0, proxy_port: int = 0
) -> Iterator[EventGrid]:
    """Yield a ready emulator with its state in `folder`, and stop it afterwards; it dies with this process."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "config.json"
    file.write_text(json.dumps(config))
    arguments = ["--port", str(port), "--storage-proxy-port", str(proxy_port), "--config", str(file)]
    process = subprocess.Popen(
        leashed_command("local.event_grid", *arguments, "--state-dir", str(folder / "state")),
        cwd=_REPOSITORY,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    log: list[str] = []
    reader = threading.Thread(target=_drain, args=(process, lines, log), daemon=True)
    reader.start()
    try:
        ready = _ready_line(process, lines, log)
        yield EventGrid(
            process=process,
            url=ready["url"],
            proxy_port=int(ready["blob_endpoint"].split(":")[2].split("/")[0]),
            account=str(config["account"]),
            log=log,
        )
    finally:
        process.kill()
        process.wait()
        reader.join()
        for pipe in (process.stdin, process.stderr):
            if pipe is not None:
                pipe.close()


def _drain(process: "subprocess.Popen[str]", lines: "queue.SimpleQueue[str]", log: list[str]) -> None:
    if process.stderr is not None:
        for line in process.stderr:
            log.append(line)
            lines.put(line)


def _ready_line(process: "subprocess.Popen[str]", lines: "queue.SimpleQueue[str]", log: list[str]) -> dict[str, str]:
    deadline = time.monotonic() + _START_DEADLINE_S
    while time.monotonic() < deadline:
        try:
            line = lines.get(timeout=0.2)
        except queue.Empty:
            if process.poll() is not None and lines.empty():
                break
            continue
        if line.startswith("{") and (record := json.loads(line)).get("message") == "ready":
            requests.get(f"{record['url']}/health", timeout=5).raise_for_status()
            return dict(record)
    raise RuntimeError(f"the Event Grid emulator did not start: {''.join(log)}")


def eventually[T](probe: Callable[[], T], *, within_s: float = 60.0) -> T:
    """Return the probe's first true value; fail with its last one when the time is over."""
    deadline = time.monotonic() + within_s
    while True:
        if value := probe():
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"nothing true within {within_s} s; the last value was {value!r}")
        time.sleep(0.02)

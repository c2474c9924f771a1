"""Starts real Azurite processes for tests, each with free ports, an account and a folder of its own."""

import base64
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue

__all__ = ["ACCOUNT", "Azurite", "azurite_running"]

ACCOUNT = "tidegatelocal"
_MAIN = Path(__file__).parents[2] / ".tools/azurite/node_modules/azurite/dist/src/azurite.js"
# Node watches the pipe on its stdin, which closes however the test process ends, SIGKILL included. And it writes its
# tables to disk when asked to: by itself it does so every five seconds, where Azure would have them before it answers.
_PRELUDE = """data:text/javascript,
import {createRequire} from 'node:module';
import fs from 'node:fs';
process.stdin.resume();
process.stdin.on('end', () => process.kill(process.pid, 'SIGKILL'));
const Loki = createRequire(process.env.AZURITE_MAIN)('lokijs');
const enable = Loki.prototype.autosaveEnable;
const databases = new Set();
Loki.prototype.autosaveEnable = function (...given) { databases.add(this); return enable.apply(this, given); };
process.on('SIGUSR2', async () => {
  const failures = [];
  for (const database of databases) await new Promise(done => database.saveDatabase(error => {
    if (error) failures.push(String(error));
    done();
  }));
  fs.writeFileSync(process.env.AZURITE_SAVED, failures.join(), 'utf8');
});
""".replace("\n", " ")
_SAVE_DEADLINE_S = 30.0
_LISTENING = re.compile(r"Azurite (Blob|Queue|Table) service is successfully listening at http://127\.0\.0\.1:(\d+)")
_SAVED = "saved.txt"
_START_DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Azurite:
    """A running Azurite: where its three services are, and how to sign in."""

    account: str
    key: str
    blob_port: int
    queue_port: int
    table_port: int
    folder: Path
    process: "subprocess.Popen[str]" = field(repr=False)

    @property
    def blob_endpoint(self) -> str:
        """The path-style blob endpoint, with the account."""
        return f"http://127.0.0.1:{self.blob_port}/{self.account}"

    @property
    def queue_endpoint(self) -> str:
        """The path-style queue endpoint, with the account."""
        return f"http://127.0.0.1:{self.queue_port}/{self.account}"

    @property
    def table_endpoint(self) -> str:
        """The path-style table endpoint, with the account."""
        return f"http://127.0.0.1:{self.table_port}/{self.account}"

    @property
    def connection_string(self) -> str:
        """What the storage clients take, for all three services."""
        return self.connection_string_with(blob_endpoint=self.blob_endpoint)

    def save(self) -> None:
        """Return once everything that it has answered so far is on disk; nothing may be written meanwhile."""
        saved = self.folder / _SAVED
        saved.unlink(missing_ok=True)
        self.process.send_signal(signal.SIGUSR2)
        deadline = time.monotonic() + _SAVE_DEADLINE_S
        while not saved.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Azurite did not save its tables; it ended with {self.process.returncode}")
            time.sleep(0.01)
        if failures := saved.read_text():
            raise RuntimeError(f"Azurite could not save its tables: {failures}")

    def kill(self) -> None:
        """End it as a crash does: what it has not saved is lost."""
        self.process.kill()
        self.process.wait()

    def connection_string_with(self, *, blob_endpoint: str) -> str:
        """Return the connection string with another blob endpoint, such as the storage proxy's."""
        return (
            f"DefaultEndpointsProtocol=http;AccountName={self.account};AccountKey={self.key};"
            f"BlobEndpoint={blob_endpoint};QueueEndpoint={self.queue_endpoint};TableEndpoint={self.table_endpoint};"
        )


@contextmanager
def azurite_running(*, account: str = ACCOUNT, key: str | None = None, folder: Path | None = None) -> Iterator[Azurite]:
    """Yield a ready Azurite and stop it afterwards; it also dies if this process is killed.

    Args:
        account: The only account's name.
        key: Its key in base64; a random one by default.
        folder: Where it keeps its state, so that a second start can find it; a temporary one by default.
    """
    key = key or base64.b64encode(secrets.token_bytes(64)).decode()
    state = folder or Path(tempfile.mkdtemp(prefix="azurite-"))
    process = _start(account=account, key=key, folder=state)
    lines: SimpleQueue[str] = SimpleQueue()
    reader = threading.Thread(target=_drain, args=(process, lines), daemon=True)
    reader.start()
    try:
        ports = _ports_said_in(lines, process)
        yield Azurite(
            account=account,
            key=key,
            blob_port=ports["Blob"],
            queue_port=ports["Queue"],
            table_port=ports["Table"],
            folder=state,
            process=process,
        )
    finally:
        process.kill()
        process.wait()
        reader.join()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        if folder is None:
            shutil.rmtree(state, ignore_errors=True)


def _start(*, account: str, key: str, folder: Path) -> "subprocess.Popen[str]":
    node = shutil.which("node")
    if node is None or not _MAIN.exists():
        raise RuntimeError(
            f"Azurite is not set up: node is {node!r}, {_MAIN} exists: {_MAIN.exists()}; run `make setup`"
        )
    services = [
        part for name in ("blob", "queue", "table") for part in (f"--{name}Host", "127.0.0.1", f"--{name}Port", "0")
    ]
    flags = ["--location", str(folder), "--skipApiVersionCheck", "--disableTelemetry", "--silent"]
    return subprocess.Popen(
        [node, "--import", _PRELUDE, str(_MAIN), *services, *flags],
        env={
            "AZURITE_ACCOUNTS": f"{account}:{key}",
            "AZURITE_MAIN": str(_MAIN),
            "AZURITE_SAVED": str(folder / _SAVED),
            "PATH": str(Path(node).parent),
            "HOME": str(folder),
        },
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _drain(process: "subprocess.Popen[str]", lines: "SimpleQueue[str]") -> None:
    if process.stdout is not None:
        for line in process.stdout:
            lines.put(line)


def _ports_said_in(lines: "SimpleQueue[str]", process: "subprocess.Popen[str]") -> dict[str, int]:
    """Return the port of each service, once Azurite says that it listens there."""
    ports: dict[str, int] = {}
    said: list[str] = []
    deadline = time.monotonic() + _START_DEADLINE_S
    while len(ports) < 3:
        if time.monotonic() > deadline:
            raise RuntimeError(f"Azurite was not ready after {_START_DEADLINE_S} s; it said: {''.join(said)!r}")
        try:
            line = lines.get(timeout=0.2)
        except Empty:
            if process.poll() is not None and lines.empty():
                raise RuntimeError(f"Azurite exited with {process.returncode}; it said: {''.join(said)!r}") from None
            continue
        said.append(line)
        if found := _LISTENING.search(line):
            ports[found[1]] = int(found[2])
    return ports

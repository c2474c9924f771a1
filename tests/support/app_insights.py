"""Starts the Application Insights emulator as the local cloud does: a process of its own."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["INSTRUMENTATION_KEY", "AppInsights", "running_app_insights"]

INSTRUMENTATION_KEY = "11111111-2222-3333-4444-555555555555"
_REPOSITORY = Path(__file__).parents[2]
_KILL_WITH_PARENT = (
    "import os,sys,threading,runpy\n"
    "threading.Thread(target=lambda:(sys.stdin.read(),os._exit(9)),daemon=True).start()\n"
    "sys.argv=['app_insights',*sys.argv[1:]]\n"
    "runpy.run_module('local.app_insights',run_name='__main__')\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AppInsights:
    """A running emulator."""

    process: "subprocess.Popen[str]"
    url: str

    @property
    def connection_string(self) -> str:
        """What the exporters take."""
        return f"InstrumentationKey={INSTRUMENTATION_KEY};IngestionEndpoint={self.url}/;LiveEndpoint={self.url}/"


@contextmanager
def running_app_insights(folder: Path) -> Iterator[AppInsights]:
    """Yield a ready emulator with its state in `folder`, and stop it afterwards; it dies with this process."""
    process = subprocess.Popen(
        [sys.executable, "-c", _KILL_WITH_PARENT, "--port", "0", "--state-dir", str(folder)],
        cwd=_REPOSITORY,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    said: list[str] = []
    url = ""
    drain: threading.Thread | None = None
    try:
        for line in process.stderr or ():
            said.append(line)
            if line.startswith("{") and (record := json.loads(line))["message"] == "ready":
                url = record["url"]
                break
        if not url:
            raise RuntimeError(f"the Application Insights emulator did not start: {''.join(said)}")
        drain = threading.Thread(target=said.extend, args=(process.stderr or (),), daemon=True)
        drain.start()
        yield AppInsights(process=process, url=url)
    finally:
        process.kill()
        process.wait()
        if drain is not None:
            drain.join()
        for pipe in (process.stdin, process.stderr):
            if pipe is not None:
                pipe.close()

"""Drives the notebook: cell after cell, then the result file and the exit code."""

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from .handover import Handover, Progress, become_driver, take_over
from .notebook_source import Notebook, NotebookSourceError, parse_notebook
from .reporting import CellRecord, Report, write_failure
from .request import Request, read_request
from .spark_session import LazySpark, SparkStart

_STOP_GRACE_S = 4.0  # after SIGTERM, if the notebook is deep in native code
_EXIT_GRACE_S = 15.0  # after the result is written, for what libraries do at exit
_TERMINATED = 128 + signal.SIGTERM


def main(argv: list[str]) -> int:
    """Run the notebook of a handover; return the process's exit code."""
    leaving = _Exit()
    handover = take_over(Path(argv[0]))
    request = read_request(handover.request_file)
    _set_path(request)
    spark = SparkStart(request, handover)
    spark.start()
    try:
        text = request.notebook_file.read_text(encoding="utf-8")
        notebook = parse_notebook(text, name=request.notebook_path)
    except (OSError, UnicodeDecodeError, NotebookSourceError) as error:
        write_failure(request, f"the notebook {request.notebook_path} cannot be read: {error}")
        return 1
    try:
        code = _Drive(request, handover, notebook, spark).run()
    except Exception as error:
        write_failure(request, f"the runner failed: {error!r}, the driver's log has more")
        raise
    leaving.soon(code)
    return code


def _set_path(request: Request) -> None:
    """Show the notebook its own folder, and not the runner's."""
    own = str(Path(__file__).resolve().parents[1])
    sys.path[:] = [entry for entry in sys.path if entry != own]
    sys.path.append(str(request.notebook_file.parent))
    os.environ.pop("PYTHONPATH", None)


class _Drive:
    """One notebook, one namespace."""

    def __init__(self, request: Request, handover: Handover, notebook: Notebook, spark: SparkStart) -> None:
        # IPython is imported while the JVM starts and PySpark is imported beside it.
        from .cells import CellRunner, run_sql
        from .dbutils.context import repl_context
        from .dbutils.paths import RootedPaths
        from .dbutils.tools import DBUtils
        from .display import Display
        from .magics import install_magics
        from .runtime_modules import install_runtime_modules
        from .shell import CellOutput, make_shell

        self._request = request
        self._handover = handover
        paths = RootedPaths(request)
        self._dbutils = DBUtils(request, spark=spark.get, cluster_python=handover.cluster_python)
        redact = self._dbutils.secrets.redact
        output = CellOutput(sys.__stdout__ or sys.stdout, redact)
        display = Display(output)
        stand_in = LazySpark(spark)
        namespace: dict[str, Any] = {
            "dbutils": self._dbutils,
            "display": display.display,
            "displayHTML": display.displayHTML,
            "getArgument": self._dbutils.widgets.getArgument,
            "spark": stand_in,
            "__tidegate_sql": lambda text: run_sql(spark, display, text),
        }
        shell = make_shell(output, namespace)
        install_magics(shell, paths)
        install_runtime_modules(shell, repl_context(request), spark)
        self._runner = CellRunner(shell, dbutils=self._dbutils, display=display, spark=spark, paths=paths)
        self._cells = [CellRecord(cell, index) for index, cell in enumerate(notebook.cells)]
        self._report = Report(request, self._cells, redact)

    def run(self) -> int:
        """Run the cells that are left; return the exit code."""
        from .cells import CellFailure
        from .endings import NotebookExit, PythonRestart, Terminated

        first = self._resume()
        _stop_on_signal()
        record: CellRecord | None = None
        try:
            for record in self._cells[first:]:
                if record.index == first:
                    self._handover.log_age("first cell")
                record.start()
                self._report.save_cells()
                self._runner.run(record, notebook_file=self._request.notebook_file)
                record.finish("SUCCESS")
        except CellFailure as failure:
            match failure.cause, record:
                case NotebookExit(value=value), CellRecord():
                    record.write_text(f"Notebook exited: {value}\n")
                    return self._end(record, "SUCCESS", exit_value=str(value))
                case PythonRestart(), CellRecord():
                    record.finish("SUCCESS")
                    self._restart(record.index + 1)
                case Terminated(), _:
                    return self._end(record, "FAILED", error="the run was stopped", code=_TERMINATED)
                case _, _:
                    return self._end(record, "FAILED", error=_describe(failure.cause), trace=failure.trace)
        except Terminated:
            return self._end(record, "FAILED", error="the run was stopped", code=_TERMINATED)
        return self._end(None, "SUCCESS")

    def _resume(self) -> int:
        progress = self._handover.progress
        if progress is None:
            return 0
        self._report.resume(progress.cells)
        self._dbutils.widgets.restore(progress.widgets)
        self._dbutils.task_values.own.update(progress.task_values)
        return progress.next_cell

    def _restart(self, next_cell: int) -> NoReturn:
        self._report.save_cells()
        progress = Progress(
            next_cell=next_cell,
            cells=self._report.cells_json()[:next_cell],
            widgets=self._dbutils.widgets.to_json(),
            task_values=self._dbutils.task_values.own,
        )
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYSPARK_GATEWAY_")}
        become_driver(
            replace(self._handover, progress=progress),
            python=Path(sys.executable),
            environment=environment,
        )

    def _end(
        self,
        record: CellRecord | None,
        state: str,
        *,
        exit_value: str | None = None,
        error: str | None = None,
        trace: str | None = None,
        code: int | None = None,
    ) -> int:
        self._handover.log_age("end")
        if record is not None:
            record.finish(state)
            for later in self._cells[record.index + 1 :]:
                later.state = "SKIPPED"
        self._report.save_result(
            exit_value=exit_value, error=error, error_trace=trace, task_values=self._dbutils.task_values.own
        )
        if code is not None:
            return code
        return 0 if error is None else 1


def _describe(error: BaseException) -> str:
    """Return a failure in one line or more, as the platform's `error` field has it."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _stop_on_signal() -> None:
    """Stop the notebook on SIGTERM, and the process soon after even if native code holds the notebook."""
    from .endings import Terminated

    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    def watch() -> None:
        while signal.SIGTERM not in os.read(read_end, 64):
            pass
        time.sleep(_STOP_GRACE_S)
        os._exit(_TERMINATED)

    signal.signal(signal.SIGTERM, stop)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    threading.Thread(target=watch, name="stop-watch", daemon=True).start()


class _Exit:
    """Ends the process for sure, and without the interpreter's own finish, which background threads can upset."""

    def __init__(self) -> None:
        self._code = 1
        atexit.register(self._leave)  # the first registered runs last: what libraries do at exit is done by then

    def soon(self, code: int) -> None:
        """End with a code, at the latest after the grace, even if a library left a thread that never ends."""
        self._code = code
        threading.Thread(target=self._leave_later, name="exit-watch", daemon=True).start()

    def _leave_later(self) -> None:
        time.sleep(_EXIT_GRACE_S)
        self._leave()

    def _leave(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            for stream in (sys.__stdout__, sys.__stderr__):
                if stream is not None:
                    stream.flush()
        os._exit(self._code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

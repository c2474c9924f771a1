"""Runs cells, each in the way of its language."""

import re
import shlex
from pathlib import Path
from typing import Any

from .dbutils.paths import RootedPaths
from .dbutils.tools import DBUtils
from .display import Display, markdown_to_html
from .notebook_source import Cell, Language, parse_notebook
from .reporting import CellRecord
from .shell import DriverShell, stream_process
from .spark_session import LazySpark, SparkStart

__all__ = ["CellFailure", "CellRunner"]

_SPARK_NAMES = re.compile(r"\b(spark|sc|sqlContext|table|sql|udf)\b")
# Lines that cannot reach PySpark: such a cell need not wait for it to be imported.
_NO_IMPORT = re.compile(r"\s*(?:(?:%pip\b|#|dbutils\.widgets\.).*(?:\n|$)\s*)*")
_MAX_RUN_DEPTH = 20


class CellFailure(Exception):  # noqa: N818 - it reports the failure of the notebook's code, not ours
    """A cell has failed, or ended on purpose; `cause` is what the notebook's code raised."""

    def __init__(self, cause: BaseException, trace: str) -> None:
        super().__init__(cause)
        self.cause = cause
        self.trace = trace


class CellRunner:
    """Executes cells in one shell and one namespace."""

    def __init__(
        self, shell: DriverShell, *, dbutils: DBUtils, display: Display, spark: SparkStart, paths: RootedPaths
    ) -> None:
        self._shell = shell
        self._dbutils = dbutils
        self._display = display
        self._spark = spark
        self._paths = paths

    def run(self, record: CellRecord, *, notebook_file: Path) -> None:
        """Run a cell with its output going to its record.

        Raises:
            CellFailure: It did not end by itself.
        """
        self._shell.output.cell = record
        self._shell.execution_count = record.index + 1
        self._shell.last_trace = ""
        try:
            self._run(record.cell, notebook_file=notebook_file, depth=0)
        except CellFailure:
            raise
        except Exception as error:
            trace = f"{type(error).__name__}: {error}"
            self._shell.output.write_text(f"{trace}\n")
            raise CellFailure(error, trace) from error

    def _run(self, cell: Cell, *, notebook_file: Path, depth: int) -> None:
        match cell.language:
            case Language.PYTHON:
                self._run_python(cell.source)
            case Language.SQL:
                self._run_python(f"_sqldf = __tidegate_sql({cell.source!r})")
            case Language.MARKDOWN:
                self._shell.output.write_html(f"{markdown_to_html(cell.source)}\n")
            case Language.SHELL:
                self._run_shell(cell)
            case Language.FILES:
                self._run_python(_files_call(cell.source))
            case Language.RUN:
                self._run_other(cell.source, notebook_file=notebook_file, depth=depth)
            case Language.SCALA | Language.R:
                raise NotImplementedError(f"cells in {cell.language.value} are not implemented locally")

    def _run_python(self, source: str) -> None:
        if not _NO_IMPORT.fullmatch(source):
            self._spark.wait_for_hooks()
            self._name_spark(source)
        result = self._shell.run_cell(source, store_history=False)  # type: ignore[no-untyped-call]
        error = result.error_before_exec or result.error_in_exec
        if error is not None:
            raise CellFailure(error, self._shell.last_trace)

    def _name_spark(self, source: str) -> None:
        """Put the real session in the place of its stand-in once a cell names it."""
        namespace = self._shell.user_ns
        if not isinstance_exactly(namespace.get("spark"), LazySpark) or not _SPARK_NAMES.search(source):
            return
        session = self._spark.get()
        from pyspark.sql import functions

        namespace.update(
            spark=session, sc=session.sparkContext, sql=session.sql, table=session.table, udf=functions.udf
        )
        namespace["sqlContext"] = session

    def _run_shell(self, cell: Cell) -> None:
        strict = ["-e"] if "-e" in cell.options.split() else []
        code = stream_process(["/bin/bash", *strict, "-c", cell.source], self._shell.output)
        if strict and code != 0:  # without -e the platform takes no notice either
            raise ChildProcessError(f"the shell cell returned non-zero exit status {code}")

    def _run_other(self, argument: str, *, notebook_file: Path, depth: int) -> None:
        """Run another notebook's cells here: `%run ./path $name="value"`."""
        path, *bindings = shlex.split(argument)
        if depth >= _MAX_RUN_DEPTH:
            raise RecursionError(f"%run is nested more than {_MAX_RUN_DEPTH} deep at {path}")
        file = self._paths.notebook_file(path, beside=notebook_file)
        notebook = parse_notebook(file.read_text(encoding="utf-8"), name=path)
        for binding in bindings:
            name, equals, value = binding.partition("=")
            if not equals or not name.startswith("$"):
                raise ValueError(f'%run takes parameters as $name="value", got {binding!r}')
            self._dbutils.widgets.bind(name[1:], value)
        for cell in notebook.cells:
            if cell.language is not Language.MARKDOWN:
                self._run(cell, notebook_file=file, depth=depth + 1)


def isinstance_exactly(value: object, kind: type) -> bool:
    """Say whether a value is of a kind; `isinstance` would believe the stand-in's `__class__`."""
    return type(value) is kind


def _files_call(source: str) -> str:
    """Return the Python of a `%fs` cell: `ls /path` is `display(dbutils.fs.ls("/path"))`."""
    command, *arguments = shlex.split(source)
    if not command.isidentifier():
        raise ValueError(f"no such command of %fs: {command!r}")
    call = f"dbutils.fs.{command}({', '.join(map(repr, arguments))})"
    return f"display({call})" if command in {"ls", "mounts"} else call


def run_sql(start: SparkStart, display: Display, text: str) -> Any:
    """Run the statements of a SQL cell and show the last one's rows."""
    frame = None
    for statement in _statements(text):
        frame = start.get().sql(statement)
    if frame is not None and frame.columns:
        display.display(frame)
    return frame


def _statements(text: str) -> list[str]:
    """Split at semicolons outside of quotes and comments."""
    parts = re.findall(r"(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|`[^`]*`|--[^\n]*|/\*.*?\*/|[^;])+", text, re.DOTALL)
    return [part.strip() for part in parts if re.sub(r"--[^\n]*", "", part).strip()]

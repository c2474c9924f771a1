"""Runs a notebook without Spark or IPython, for tests of the workspace: `python stand_in_runner.py REQUEST.json`.

It keeps the contract between the workspace and the real runner: the request and result files, cells.json, and death
at the end of the leash on standard input.
"""

import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any


class _Exit(BaseException):
    pass


def main() -> None:
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    threading.Thread(target=_watch_leash, daemon=True).start()
    result: dict[str, Any] = {"state": "SUCCESS", "exit_value": None, "error": None, "error_trace": None, "cells": []}
    result["task_values"] = {}
    source = Path(request["notebook_file"]).read_text(encoding="utf-8")
    try:
        exec(compile(source, request["notebook_path"], "exec"), _names(request, result))
    except _Exit:
        pass
    except Exception as error:  # noqa: BLE001 - a notebook may raise anything
        result |= {"state": "FAILED", "error": repr(error), "error_trace": traceback.format_exc()}
    cells = [
        {
            "title": "Everything",
            "source": source,
            "language": "python",
            "outputs_text": "<b>done</b>",
            "outputs_html": "",
            "duration_s": 0.1,
            "state": result["state"],
        }
    ]
    Path(request["output_dir"], "cells.json").write_text(json.dumps(cells), encoding="utf-8")
    partial = Path(request["result_file"] + ".partial")
    partial.write_text(json.dumps(result), encoding="utf-8")
    partial.replace(request["result_file"])


def _names(request: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    def leave(value: str) -> None:
        result["exit_value"] = value
        raise _Exit

    return {
        "request": request,
        "dbutils": SimpleNamespace(
            widgets=SimpleNamespace(get=request["parameters"].__getitem__),
            notebook=SimpleNamespace(exit=leave),
            jobs=SimpleNamespace(taskValues=SimpleNamespace(set=result["task_values"].__setitem__)),
        ),
    }


def _watch_leash() -> None:
    while os.read(0, 1):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    main()

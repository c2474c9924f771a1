"""Runs notebooks through the real runner: parameters, outputs, failures, packages and other notebooks."""

import base64
import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.notebook_runs import NotebookWorld, eventually, processes_that_mention

pytestmark = pytest.mark.integration

_SECRET = "a-value-that-nobody-may-see"


class _SecretsApi(BaseHTTPRequestHandler):
    """The part of the workspace that the runner itself calls."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        known = url.path == "/api/2.0/secrets/get" and query == {"scope": ["tidegate"], "key": ["topic-key"]}
        if self.headers["Authorization"] != "Bearer dapi-of-the-run":
            self._answer(403, {"error_code": "PERMISSION_DENIED", "message": "no"})
        elif known:
            self._answer(200, {"key": "topic-key", "value": base64.b64encode(_SECRET.encode()).decode()})
        else:
            self._answer(404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Secret does not exist"})

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, status: int, document: dict[str, str]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[NotebookWorld]:
    """A workspace whose secrets can be read and whose storage is away."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _SecretsApi)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield NotebookWorld(tmp_path, host=f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_notebook_reads_its_parameters_shows_its_outputs_and_exits(world: NotebookWorld) -> None:
    """Parameters win over defaults, each output is in its own cell, and exit cannot be caught."""
    run = world.run(
        "# MAGIC %md\n# MAGIC # A *title*",
        "# DBTITLE 1,Parameters\n"
        'dbutils.widgets.text("given", "default")\n'
        'dbutils.widgets.dropdown("untouched", "b", ["a", "b"])\n'
        'print(dbutils.widgets.get("given"), dbutils.widgets.get("untouched"), dbutils.widgets.get("undeclared"))',
        "import os, sys\n"
        'print(os.environ["MLFLOW_TRACKING_URI"], os.environ["DATABRICKS_RUNTIME_VERSION"], os.environ["TZ"])\n'
        "print(os.path.basename(os.getcwd()))\n"
        'print("to stderr", file=sys.stderr)\n'
        "!echo from a shell",
        "import pandas as pd\nfrom IPython import get_ipython\n"
        'assert get_ipython().user_ns["dbutils"] is dbutils\n'
        'display(pd.DataFrame({"name": ["<b>x</b>", None]}))',
        "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2])\nplt.show()",
        '# MAGIC %sh\n# MAGIC echo "in bash"; exit 3',
        'key = dbutils.secrets.get("tidegate", "topic-key")\nprint(f"the key is {key}", len(key))\n'
        'dbutils.jobs.taskValues.set("count", 3)\nprint(dbutils.jobs.taskValues.get("earlier", "x", default=0))',
        'try:\n    dbutils.notebook.exit("{\\"ok\\": true}")\nexcept Exception:\n    print("caught")',
        'print("never")',
        parameters={"given": "42", "undeclared": "too"},
        env={"MARK": "1"},
        task_values={"earlier": {"x": 7}},
    )

    assert run.exit_code == 0, run.explanation
    assert (run.result["state"], run.result["exit_value"]) == ("SUCCESS", '{"ok": true}')
    assert run.result["task_values"] == {"count": 3}
    assert "<em>title</em>" in run.cell(0)["outputs_html"]
    assert (run.cell(1)["title"], run.cell(1)["outputs_text"]) == ("Parameters", "42 b too\n")
    assert run.cell(2)["outputs_text"] == "databricks 18.2 UTC\nnotebooks\nto stderr\nfrom a shell\n"
    assert "<td>&lt;b&gt;x&lt;/b&gt;</td>" in run.cell(3)["outputs_html"]
    assert run.cell(4)["outputs_html"].startswith('<img alt="figure" src="data:image/png;base64,iVBOR')
    assert (run.cell(5)["outputs_text"], run.cell(5)["state"]) == ("in bash\n", "SUCCESS")
    assert run.cell(6)["outputs_text"] == "the key is [REDACTED] 27\n7\n"
    assert _SECRET not in run.log
    assert run.cell(7)["outputs_text"] == 'Notebook exited: {"ok": true}\n'
    assert (run.cell(8)["state"], run.cell(8)["outputs_text"]) == ("SKIPPED", "")
    assert json.loads((run.output_dir / "cells.json").read_text()) == run.result["cells"]


def test_a_failing_cell_fails_the_run_with_its_trace(world: NotebookWorld) -> None:
    """The error is one line, the trace shows the notebook's own code, later cells do not run."""
    run = world.run(
        "def broken(value):\n    return 1 / value",
        'print("before")\nbroken(0)',
        'print("after")',
    )

    assert run.exit_code == 1
    assert run.result["state"] == "FAILED"
    assert run.result["error"] == "ZeroDivisionError: division by zero"
    assert "File <command-2>, line 2" in run.result["error_trace"]
    assert "----> 2     return 1 / value" in run.result["error_trace"]
    assert [cell["state"] for cell in run.result["cells"]] == ["SUCCESS", "FAILED", "SKIPPED"]
    assert run.cell(1)["outputs_text"].startswith("before\n---")


@pytest.mark.parametrize(
    ("cell", "error"),
    [
        ('dbutils.widgets.get("missing")', "InputWidgetNotDefined: No input widget named missing is defined"),
        ('dbutils.secrets.get("tidegate", "no")', "SecretsError: RESOURCE_DOES_NOT_EXIST: Secret does not exist"),
        ("# MAGIC %pip install --no-index no-such-package", "PipError: Command 'pip install --no-index no-such-"),
        ("# MAGIC %run ./no-such-notebook", "FileNotFoundError: Notebook not found: ./no-such-notebook"),
        ("# MAGIC %scala\n# MAGIC val x = 1", "NotImplementedError: cells in scala are not implemented locally"),
        ("import sys\nsys.exit(3)", "SystemExit: 3"),
        ("x = (", "SyntaxError: incomplete input"),
    ],
)
def test_what_cannot_work_fails_in_plain_words(world: NotebookWorld, cell: str, error: str) -> None:
    """The `error` field alone says what is wrong."""
    run = world.run(cell)

    assert run.exit_code == 1
    assert run.result["error"].startswith(error), run.explanation


def test_pip_installs_the_release_for_this_run_only(world: NotebookWorld, tmp_path: Path) -> None:
    """Exactly the wheels beside the notebook, by digest, seen at once and gone with the run."""
    requirement = _make_release(world.workspace / "project")

    run = world.run(
        "# MAGIC %pip install --quiet --no-deps --no-index --require-hashes -r ../requirements.txt",
        "import tiny_wheel, sys\nprint(tiny_wheel.ANSWER, sys.prefix in tiny_wheel.__file__)",
        "dbutils.library.restartPython()",
        'print("answer" in dir(), tiny_wheel.ANSWER if "tiny_wheel" in dir() else __import__("tiny_wheel").ANSWER)',
    )
    later = world.run("import tiny_wheel")

    assert run.exit_code == 0, run.explanation
    assert run.cell(1)["outputs_text"] == "42 True\n"
    assert run.cell(3)["outputs_text"] == "False 42\n"
    assert later.result["error"] == "ModuleNotFoundError: No module named 'tiny_wheel'"
    (world.workspace / "project" / "requirements.txt").write_text(requirement.replace("sha256:", "sha256:0"))
    refused = world.run(
        "# MAGIC %pip install --quiet --no-deps --no-index --require-hashes -r ../requirements.txt",
    )
    assert refused.result["error"].startswith("PipError: Command 'pip install --quiet")


def test_notebooks_run_each_other(world: NotebookWorld) -> None:
    """%run shares the namespace; dbutils.notebook.run has a process, parameters and an exit value of its own."""
    world.write("shared.py", "shared = dbutils.widgets.get('who') + '!'", "def greet():\n    return shared")
    world.write("other.py", "dbutils.notebook.exit('got ' + dbutils.widgets.get('given'))")
    world.write("broken.py", "raise ValueError('inner')")

    run = world.run(
        '# MAGIC %run ./shared $who="you"',
        "print(greet())",
        'print(dbutils.notebook.run("./other", 120, {"given": "this"}))',
        'try:\n    dbutils.notebook.run("/Workspace/project/notebooks/broken")\nexcept Exception as error:\n'
        "    print(type(error).__name__, error)",
    )

    assert run.exit_code == 0, run.explanation
    assert run.cell(1)["outputs_text"] == "you!\n"
    assert run.cell(2)["outputs_text"] == "got this\n"
    assert run.cell(3)["outputs_text"].startswith("WorkflowException Workflow failed: ")
    assert "ValueError: inner" in run.cell(3)["outputs_text"]
    assert eventually(lambda: not processes_that_mention(str(world.root)))


def test_a_notebook_that_cannot_be_read_is_a_result_too(world: NotebookWorld) -> None:
    """The workspace learns the reason rather than finding no result."""
    run = world.run("x = 1", notebook_file=str(world.folder / "gone"))

    assert run.exit_code == 1
    assert "cannot be read" in run.result["error"]


def _make_release(folder: Path) -> str:
    """Build a wheel and the requirements file of a release; return the file's text."""
    source = folder.parent / "source"
    (source / "tiny_wheel").mkdir(parents=True)
    (source / "tiny_wheel" / "__init__.py").write_text("ANSWER = 42\n")
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "tiny-wheel"\nversion = "1.0+gabc"\n'
        '[tool.hatch.build.targets.wheel]\npackages = ["tiny_wheel"]\n'
    )
    wheels = folder / "wheels"
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(wheels), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = wheels.glob("*.whl")
    requirement = f"../wheels/{wheel.name} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"
    (folder / "requirements.txt").write_text(requirement)
    return requirement

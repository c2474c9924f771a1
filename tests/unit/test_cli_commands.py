"""Tests the command line without a cloud: what it prints, how it fails, how fast it answers."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from functions.core.model import ModelSignal, SignalType
from functions.core.signals import signal_to_document
from local.supervisor.folders import REPOSITORY, Folders
from local.supervisor.ports import PORT_NAMES
from local.supervisor.settings import make_settings, save_settings

_EVENT = {
    "topic": "/subscriptions/0/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/tidegatelocal",
    "subject": "/blobServices/default/containers/input/blobs/flights/new/2013-06.parquet",
    "eventType": "Microsoft.Storage.BlobCreated",
    "eventTime": "2026-01-13T17:18:13.1647262Z",
    "id": "93902694-901e-008f-6f95-7153a806873c",
    "data": {
        "api": "PutBlob",
        "eTag": "0x8D83FACDC0C3402",
        "contentType": "application/octet-stream",
        "contentLength": 524288,
        "blobType": "BlockBlob",
        "url": "https://tidegatelocal.blob.core.windows.net/input/flights/new/2013-06.parquet",
        "sequencer": "00000000000000000000000000000001",
    },
    "dataVersion": "",
    "metadataVersion": "1",
}


def _environ(state_dir: Path | None = None, **settings: str) -> dict[str, str]:
    local = {"TIDEGATE_LOCAL_DIR": str(state_dir or "/nonexistent"), "NO_COLOR": "1", "COLUMNS": "200"}
    return {**os.environ, **local, **settings}


def _tidegate(
    *arguments: str, state_dir: Path | None = None, standard_input: str = "", **settings: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        cwd=REPOSITORY,
        env=_environ(state_dir, **settings),
        input=standard_input,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def _event_file(folder: Path, **changes: object) -> Path:
    path = folder / "event.json"
    path.write_text(json.dumps([{**_EVENT, **changes}]))
    return path


def test_help_lists_every_command() -> None:
    done = _tidegate("--help")

    assert done.returncode == 0
    for command in (
        "up", "down", "status", "env", "logs", "demo", "runs", "explain", "trace", "ledger", "check", "deploy",
        "pipelines", "pause", "resume", "allow",
    ):  # fmt: skip
        assert f" {command} " in done.stdout


def test_the_command_line_imports_nothing_heavy_before_it_knows_the_command() -> None:
    """Help and errors answer at once; clients, data frames and servers are imported by the command that needs them."""
    script = "import sys, cli.main; print(sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)

    for heavy in ("azure", "databricks", "mlflow", "pandas", "pyarrow", "aiohttp", "requests", "rich"):
        assert f"'{heavy}'" not in loaded.stdout


@pytest.mark.parametrize(
    "command",
    [
        ("env",),
        ("runs",),
        ("runs", "--json"),
        ("ledger", "status"),
        ("deploy",),
        ("trace", "https://a.blob.core.windows.net/c/p"),
        ("pipelines",),
        ("pause", "all"),
        ("resume", "all"),
        ("allow", "all", "1"),
    ],
)
def test_commands_that_need_the_cloud_say_how_to_start_it(tmp_path: Path, command: tuple[str, ...]) -> None:
    done = _tidegate(*command, state_dir=tmp_path)

    assert done.returncode == 1
    assert done.stderr == "Error: the local cloud is not running; start it with `make up` (or `tidegate up`)\n"
    assert done.stdout == ""


def test_status_of_a_stopped_cloud_has_an_exit_code_of_its_own(tmp_path: Path) -> None:
    text, document = _tidegate("status", state_dir=tmp_path), _tidegate("status", "--json", state_dir=tmp_path)

    assert text.returncode == document.returncode == 3
    assert "not running" in text.stdout
    assert json.loads(document.stdout) == {"state": "stopped"}


def test_down_without_a_cloud_is_harmless(tmp_path: Path) -> None:
    done = _tidegate("down", state_dir=tmp_path)

    assert (done.returncode, done.stdout) == (0, "The local cloud is not running.\n")


def test_the_environment_has_exactly_the_documented_names_in_order() -> None:
    settings = make_settings({name: 20000 + offset for offset, name in enumerate(PORT_NAMES)})

    environment = settings.environment()

    assert list(environment) == [
        "AZURE_STORAGE_CONNECTION_STRING",
        "DATABRICKS_HOST",
        "DATABRICKS_TOKEN",
        "MLFLOW_TRACKING_URI",
        "TIDEGATE_API_URL",
        "TIDEGATE_API_KEY",
        "EVENTGRID_TOPIC_ENDPOINT",
        "EVENTGRID_TOPIC_KEY",
        "INPUT_CONTAINER",
        "SCORES_CONTAINER",
    ]
    assert all(value and "\n" not in value for value in environment.values())


def test_two_clouds_have_different_secrets() -> None:
    ports = {name: 20000 + offset for offset, name in enumerate(PORT_NAMES)}

    one, other = make_settings(ports), make_settings(ports)

    assert one.account_key != other.account_key
    assert one.databricks_token != other.databricks_token
    assert one.function_key != one.master_key


def test_settings_are_not_taken_for_a_running_cloud(tmp_path: Path) -> None:
    folders = Folders(state_dir=tmp_path)
    folders.make()
    save_settings(folders.settings, make_settings(dict.fromkeys(PORT_NAMES, 20000)))

    assert _tidegate("env", state_dir=tmp_path).returncode == 1


def test_explain_prints_decision_run_and_route_without_a_cloud(tmp_path: Path) -> None:
    done = _tidegate("explain", str(_event_file(tmp_path)), "--json", "--model-version", "7", state_dir=tmp_path)

    document = json.loads(done.stdout)
    assert done.returncode == 0
    assert document["decision"]["pipeline"] == "flight_delay_scoring"
    assert document["then"]["action"] == "start"
    assert document["run"]["parameters"]["model_version"] == "7"
    assert len(document["run"]["token"]) == 64
    assert not (tmp_path / "run").exists()


def test_explain_says_that_a_pipeline_without_a_window_starts_at_once(tmp_path: Path) -> None:
    done = _tidegate("explain", str(_event_file(tmp_path)))

    assert "  why: the pipeline has no batching window, so its batch closes at once\n" in done.stdout
    assert "  why: asked for by arrivals " in done.stdout


def test_explain_does_not_invent_the_model_version(tmp_path: Path) -> None:
    done = _tidegate("explain", str(_event_file(tmp_path)), "--json")

    document = json.loads(done.stdout)
    assert document["then"]["model_version"] is None
    assert "run" not in document


def test_explain_gives_the_reason_for_what_starts_nothing(tmp_path: Path) -> None:
    subject = "/blobServices/default/containers/input/blobs/flights/new/2013-06.csv"
    data = {**_EVENT["data"], "url": "https://tidegatelocal.blob.core.windows.net/input/flights/new/2013-06.csv"}  # type: ignore[dict-item] # a literal above

    done = _tidegate("explain", str(_event_file(tmp_path, subject=subject, data=data)))

    assert done.returncode == 0
    assert "action: skip" in done.stdout
    assert "no route matches the blob" in done.stdout


def test_explain_says_what_a_signal_would_start(tmp_path: Path) -> None:
    """R51: and, because the cooldown is in the ledger, on which condition."""
    signal = ModelSignal(
        event_id="e-1",
        source="/monitors/weekly",
        type=SignalType.DRIFT_DETECTED,
        time=datetime(2026, 3, 1, tzinfo=UTC),
        environment="local",
        model_name="main.tidegate.flight_delay",
        model_version="7",
        window_start=datetime(2026, 2, 1, tzinfo=UTC),
        window_end=datetime(2026, 3, 1, tzinfo=UTC),
        metrics={"psi": 0.31},
    )
    reaching, short = signal_to_document(signal), signal_to_document(replace(signal, metrics={"psi": 0.1}))

    started = _tidegate("explain", "-", standard_input=json.dumps(reaching))
    refused = _tidegate("explain", "-", standard_input=json.dumps(short))

    assert "asked for by signal drift" in started.stdout
    assert "unless: drift has started another run within the last 24 hours" in started.stdout
    assert "flight_delay_training.drift: psi is 0.1, below 0.2" in refused.stdout


def test_explain_reads_standard_input_and_refuses_what_is_no_event() -> None:
    done = _tidegate("explain", "-", standard_input='{"a": 1}')

    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "event.eventType: got nothing, expected an event type of Microsoft.Storage" in done.stderr
    assert "Traceback" not in done.stderr


def test_explain_of_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    done = _tidegate("explain", str(tmp_path / "none.json"))

    assert done.returncode == 1
    assert "No such file or directory; expected a file with one event, " in done.stderr
    assert "or the whole id of an arrival or a run" in done.stderr  # half an id is taken for a file
    assert "Traceback" not in done.stderr


def test_check_tells_every_mistake_at_once(tmp_path: Path) -> None:
    config = tmp_path / "pipelines.toml"
    config.write_text('schema = 1\n[pipelines.p]\nkind = "guessing"\njob = "nonsense"\ncolour = "red"\n')

    done = _tidegate("check", str(config))

    assert done.returncode == 1
    for part in ("guessing", "nonsense", "colour"):
        assert part in done.stderr


def test_check_accepts_the_repositorys_own_configuration() -> None:
    done = _tidegate("check")

    assert done.returncode == 0, done.stderr
    assert "flight_delay_scoring: scoring, job scoring" in done.stdout


def _pipelines_file(folder: Path, name: str) -> Path:
    path = folder / f"{name}.toml"
    path.write_text((REPOSITORY / "pipelines.toml").read_text().replace("flight_delay_scoring", name))
    return path


def test_check_follows_the_setting_as_the_app_does_and_says_which_file_it_read(tmp_path: Path) -> None:
    chosen = _pipelines_file(tmp_path, "scoring_elsewhere")

    done = _tidegate("check", TIDEGATE_PIPELINES_FILE=str(chosen))
    within_the_app = _tidegate("check", TIDEGATE_PIPELINES_FILE="none.toml")

    assert done.returncode == 0, done.stderr
    assert "scoring_elsewhere: scoring, job scoring" in done.stdout
    assert str(chosen) in done.stdout
    assert str(REPOSITORY / "none.toml") in within_the_app.stderr


def test_a_file_on_the_command_line_wins_over_the_setting(tmp_path: Path) -> None:
    named, other = _pipelines_file(tmp_path, "scoring_named"), tmp_path / "none.toml"

    checked = _tidegate("check", str(named), TIDEGATE_PIPELINES_FILE=str(other))
    explained = _tidegate(
        "explain", str(_event_file(tmp_path)), "--config", str(named), TIDEGATE_PIPELINES_FILE=str(other)
    )

    assert "scoring_named: scoring" in checked.stdout
    assert "pipeline: scoring_named" in explained.stdout


def test_explain_decides_with_the_file_of_the_setting(tmp_path: Path) -> None:
    chosen = _pipelines_file(tmp_path, "scoring_elsewhere")

    done = _tidegate("explain", str(_event_file(tmp_path)), TIDEGATE_PIPELINES_FILE=str(chosen))

    assert "pipeline: scoring_elsewhere" in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
@pytest.mark.parametrize("arguments", [["check"], ["--help"], ["explain", "-h"]])
@pytest.mark.parametrize("is_error_full", [False, True])
def test_output_that_cannot_be_written_is_one_line_and_a_failure(arguments: list[str], *, is_error_full: bool) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", *arguments],
            cwd=REPOSITORY,
            env=_environ(),
            stdout=full,
            stderr=full if is_error_full else subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )

    assert done.returncode == 1
    assert done.stderr == (None if is_error_full else "Error: cannot write the output: No space left on device\n")


@pytest.mark.parametrize(
    ("arguments", "closed", "exit_code"),
    [
        (["check"], ">&-", 1),
        (["--help"], ">&-", 1),
        (["pipelines", "-h"], ">&-", 1),
        (["check"], ">&- 2>&-", 1),
        (["nonsense"], ">&-", 2),
        (["check"], "2>&-", 0),
    ],
)
def test_output_that_is_closed_is_one_line_and_a_failure(arguments: list[str], closed: str, exit_code: int) -> None:
    """It ended with 0, and a script took what it had not read for what there was."""
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "cli.main", *arguments],
        cwd=REPOSITORY,
        env=_environ(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == exit_code
    is_told = exit_code == 1 and "2>" not in closed
    assert (done.stderr == "Error: cannot write the output: it is closed\n") == is_told


@pytest.mark.parametrize("arguments", [["check"], ["--help"]])
def test_a_pipe_that_nobody_reads_any_more_ends_a_command_in_silence(arguments: list[str]) -> None:
    """As with `| head -1`, which has seen enough."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", *arguments],
            cwd=REPOSITORY,
            env=_environ(),
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    finally:
        os.close(writer)

    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize(("port_base", "told"), [("80", "80"), ("65530", "65536")])
def test_a_port_base_that_cannot_be_is_refused(tmp_path: Path, port_base: str, told: str) -> None:
    done = _tidegate("up", "--port-base", port_base, state_dir=tmp_path)

    assert done.returncode == 1
    assert f"--port-base: '{told}' is no port from 1024 to 65535" in done.stderr
    assert "Traceback" not in done.stderr

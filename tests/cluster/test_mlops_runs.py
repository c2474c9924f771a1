"""Runs whole training and scoring jobs in one process: what a notebook's cells do, on a folder instead of storage."""

import io
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import jsonschema
import mlflow
import pandas as pd
import pytest
from conftest import STAGES
from flights import make_flights
from worlds import MODEL, World

from tidegate_ml import FlightDelay
from tidegate_mlops.environment import Environment
from tidegate_mlops.errors import InputRefusedError, MissingPrerequisiteError, StageOrderError, SupersededError
from tidegate_mlops.urls import BlobUrl
from tidegate_mlops.wiring import DbUtils, Services

CONTRACTS = Path(__file__).parents[2] / "docs" / "contracts"


def schema(name: str) -> dict[str, Any]:
    return json.loads((CONTRACTS / f"{name}.schema.json").read_text(encoding="utf-8"))


def check(document: object, name: str) -> None:
    jsonschema.Draft202012Validator(schema(name)).validate(document)
    if isinstance(document, dict) and "specversion" in document:  # an event is also what its type's schema says
        jsonschema.Draft202012Validator(schema(f"events/{document['type']}")).validate(document)


def scored_rows(world: World, manifest: dict[str, Any]) -> pd.DataFrame:
    tables = [pd.read_parquet(world.store.place(BlobUrl.parse(file["url"]))) for file in manifest["files"]]
    return pd.concat(tables, ignore_index=True).sort_values("flight", ignore_index=True)


def test_training_registers_the_first_model_as_champion(trained: World, training_result: dict[str, Any]) -> None:
    """There was none to compare with, and the version is the one this run made."""
    check(training_result, "result")
    assert training_result["model"]["version"] == "1"
    assert training_result["model"]["is_champion"] is True
    run = mlflow.MlflowClient().get_run(training_result["model"]["mlflow_run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.params["learning_rate"] == "0.1"
    assert run.data.params["n_estimators"] == "5"
    assert run.data.tags["tidegate.run_id"] == training_result["run_id"]
    assert run.data.tags["tidegate.databricks_run_id"] == "77"
    assert run.data.metrics["rows_fit"] == 2000
    assert mlflow.MlflowClient().get_model_version_by_alias(MODEL, "champion").run_id == run.info.run_id
    figures = [file.path for file in mlflow.MlflowClient().list_artifacts(run.info.run_id, "figures")]
    assert "figures/model_quality.png" in figures


def test_training_announces_its_completion_once(
    training_result: dict[str, Any], training_events: list[dict[str, Any]]
) -> None:
    """The event follows the schema and carries the lineage."""
    [event] = training_events
    check(event, "completion-event")
    assert event["id"] == f"{training_result['run_id']}.1.completed"
    assert event["data"]["model"] == training_result["model"]
    assert event["data"]["databricks_run_id"] == 77
    assert event["traceparent"] == "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_the_logged_model_works_as_a_pyfunc(trained: World) -> None:
    """Anyone with MLflow can load the registered version and score a frame with the input contract's columns."""
    model = mlflow.pyfunc.load_model(f"models:/{MODEL}/1")

    scores = model.predict(make_flights(5).drop(columns=["tailnum", "dep_delay", "arr_delay", "air_time"]))

    assert list(scores.columns) == ["score"]
    assert scores["score"].between(0, 1).all()


def test_scoring_publishes_scores_that_add_up(trained: World, run_all: Any) -> None:
    """Every row in is scored or quarantined with its reason; the manifest says so and names every file."""
    flights = make_flights(10)
    flights.loc[3, "carrier"] = "??"
    values = trained.parameters("scoring", [trained.upload("june.parquet", flights)])

    result = run_all(trained, values)

    check(result, "result")
    manifest = trained.scores_manifest(values)
    assert manifest is not None
    check(manifest, "scores-manifest")
    assert (manifest["rows_in"], manifest["rows_scored"], manifest["rows_quarantined"]) == (10, 9, 1)
    scores = scored_rows(trained, manifest)
    assert list(scores.columns) == [column["name"] for column in manifest["columns"]]
    assert scores["score"].between(0, 1).all()
    assert set(scores["run_id"]) == {values["run_id"]}
    assert sorted(scores["flight"]) == [1, 2, 3, 5, 6, 7, 8, 9, 10]
    [bad] = [pd.read_parquet(trained.store.place(BlobUrl.parse(file["url"]))) for file in manifest["quarantine_files"]]
    assert bad["reason"].tolist() == ["carrier does not look like [A-Z0-9]{2,3}"]
    assert bad["source_file"].tolist() == ["june.parquet"]
    assert json.loads(bad["original"][0])["carrier"] == "??"
    check(trained.announcements.events[-1], "completion-event")
    assert trained.announcements.events[-1]["data"]["outputs"] == result["outputs"]


def test_a_flight_gets_the_same_score_in_any_batch(trained: World, run_all: Any) -> None:
    """Features depend on the row and the model only, so splitting the input changes nothing."""
    flights = make_flights(10)
    whole = trained.parameters("scoring", [trained.upload("whole.parquet", flights)], run=1)
    halves = [trained.upload("a.parquet", flights[:5]), trained.upload("b.parquet", flights[5:])]
    split = trained.parameters("scoring", halves, run=2)

    run_all(trained, whole)
    run_all(trained, split)

    one, two = (scored_rows(trained, trained.scores_manifest(values) or {}) for values in (whole, split))
    assert one["score"].tolist() == two["score"].tolist()


def test_repeating_a_run_leaves_one_identical_set(trained: World, run_all: Any) -> None:
    """A second attempt of the same run confirms what is published and removes its own files."""
    url = trained.upload("june.parquet", make_flights(10))
    first = trained.parameters("scoring", [url], attempt=1)
    second = trained.parameters("scoring", [url], attempt=2)
    run_all(trained, first)
    before = trained.scores_manifest(first)

    result = run_all(trained, second)

    assert trained.scores_manifest(second) == before
    assert result["stages"][-1]["reason"] == "another attempt of this run had published scores, which stay"
    kept = trained.store.list_folder(BlobUrl.parse(first["output_url"]))
    assert before is not None
    assert sorted(str(file.url) for file in kept) == sorted(
        [first["output_url"] + "/_manifest.json", *(file["url"] for file in before["files"])]
    )


def test_scores_of_a_repeated_run_can_be_published_from_the_checkpoint(trained: World, run_all: Any) -> None:
    """The second attempt removed what it had scored; what goes on from it finds the scores that stayed."""
    bad = make_flights(10, months=(7,)).assign(month=lambda rows: rows.month.where(rows.index != 0, 13))
    url = trained.upload("june.parquet", bad)
    for attempt in (1, 2):
        run_all(trained, trained.parameters("scoring", [url], attempt=attempt))
    done = dict.fromkeys(("validation", "feature_engineering", "batch_scoring"), "false")
    third = trained.parameters("scoring", [url], run=2, **done)

    result = run_all(trained, third)

    assert (result["outputs"]["rows_scored"], result["outputs"]["rows_quarantined"]) == (9, 1)
    manifest = trained.scores_manifest(third)
    assert manifest is not None
    assert manifest["run_id"] == third["run_id"]
    assert len(scored_rows(trained, manifest)) == 9


def test_another_run_of_the_same_batch_takes_over(trained: World, run_all: Any) -> None:
    """Its manifest tells its own lineage, the scores are equal, and the files of the run before are gone."""
    url = trained.upload("june.parquet", make_flights(10))
    first, second = (trained.parameters("scoring", [url], run=run) for run in (1, 2))
    run_all(trained, first)
    before = scored_rows(trained, trained.scores_manifest(first) or {})

    run_all(trained, second)

    manifest = trained.scores_manifest(second)
    assert manifest is not None
    assert manifest["run_id"] == second["run_id"]
    after = scored_rows(trained, manifest)
    pd.testing.assert_frame_equal(before.drop(columns="run_id"), after.drop(columns="run_id"))
    assert len(trained.store.list_folder(BlobUrl.parse(first["output_url"]))) == 1 + len(manifest["files"])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"year,month\n2013,6\n" * 20, "'bad.parquet' is no Parquet file"),
        (b"", "'bad.parquet' is no Parquet file"),
        (make_flights(3).drop(columns=["dest", "distance"]), "'bad.parquet': column 'dest' is missing, expected text"),
        (make_flights(3)[:0], "'bad.parquet': it has no rows"),
        (make_flights(3).assign(month=float("nan")), "3 of 3 rows are bad, at most 50% may be"),
        (make_flights(3).assign(carrier=None), "'bad.parquet': column 'carrier' has no value at all"),
        (make_flights(3).assign(day="first"), "'bad.parquet': column 'day' is text, expected integer"),
    ],
    ids=["text", "no bytes", "missing columns", "no rows", "only NaN", "only null", "wrong type"],
)
def test_bad_files_are_refused_with_reasons(
    trained: World, begin: Any, content: pd.DataFrame | bytes, reason: str
) -> None:
    """Nothing is published, MLflow says FAILED, and the completion event says why."""
    values = trained.parameters("scoring", [trained.upload("bad.parquet", content)])
    run = begin(trained, values)

    with pytest.raises(InputRefusedError) as refused:
        run.stage("validation")

    assert reason in str(refused.value)
    assert trained.scores_manifest(values) is None
    event = trained.announcements.events[-1]
    check(event, "completion-event")
    assert event["id"] == f"{values['run_id']}.1.failed"
    assert event["data"]["reason"].startswith("input_refused: ")
    refused = event["data"]["refused"]
    assert (refused["file_count"], [file["url"].rsplit("/", 1)[1] for file in refused["files"]]) == (1, ["bad.parquet"])
    assert refused["files"][0]["reason"].startswith("input_refused: ")
    assert [stage["outcome"] for stage in event["data"]["stages"]] == ["failed", *["skipped_by_upstream"] * 3]
    runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert {run.info.status for run in runs if run.data.tags["tidegate.run_id"] == values["run_id"]} == {"FAILED"}


def test_a_version_of_a_folder_is_announced_as_such(trained: World, begin: Any) -> None:
    """The notebook knows from its manifest which folder it reads, and which run's scores it takes the place of."""
    adds = {"consignment": "input/june/", "replaces": "flight_delay_scoring-20130701T020000Z-0123456789ab"}
    urls = [trained.upload("part-0.parquet", b"no parquet")]
    run = begin(trained, trained.parameters("scoring", urls, manifest_adds=adds))

    with pytest.raises(InputRefusedError):
        run.stage("validation")

    event = trained.announcements.events[-1]
    check(event, "completion-event")
    assert {name: event["data"][name] for name in adds} == adds


def test_a_file_that_changed_is_superseded(trained: World, begin: Any) -> None:
    """The batch was frozen with another version, so the run must not read this one."""
    url = trained.upload("june.parquet", make_flights(10))
    values = trained.parameters("scoring", [url])
    trained.upload("june.parquet", make_flights(11))

    with pytest.raises(SupersededError):
        begin(trained, values)

    assert trained.announcements.events[-1]["data"]["reason"].startswith(f"superseded: {url} now has ETag ")


def test_a_file_that_changes_while_it_is_read_is_superseded(trained: World, begin: Any) -> None:
    """It was perhaps read half and half, so what was read does not count."""
    url = trained.upload("june.parquet", make_flights(10))
    run = begin(trained, trained.parameters("scoring", [url]))
    trained.upload("june.parquet", make_flights(10, seed=2))

    with pytest.raises(SupersededError):
        run.stage("validation")


def test_every_file_that_is_to_blame_is_named_and_no_other(trained: World, begin: Any) -> None:
    """Whoever sent good files beside them gets those scored in another run."""
    good, gone = trained.upload("good.parquet", make_flights(10)), trained.upload("gone.parquet", make_flights(3))
    bad = [trained.upload(f"bad{number}.parquet", b"no parquet at all") for number in range(25)]
    run = begin(trained, trained.parameters("scoring", [good, gone, *bad]))
    trained.upload("gone.parquet", make_flights(4))

    with pytest.raises(InputRefusedError):
        run.stage("validation")

    event = trained.announcements.events[-1]
    check(event, "completion-event")
    refused = event["data"]["refused"]
    assert refused["file_count"] == 26
    assert [file["url"] for file in refused["files"]] == bad[:20]


def test_files_that_changed_are_all_named(trained: World, begin: Any) -> None:
    urls = [trained.upload(f"june{number}.parquet", make_flights(3)) for number in range(3)]
    values = trained.parameters("scoring", urls)
    for number in (0, 2):
        trained.upload(f"june{number}.parquet", make_flights(4))

    with pytest.raises(SupersededError, match=r"june0\.parquet now has ETag .*june2\.parquet now has ETag"):
        begin(trained, values)

    refused = trained.announcements.events[-1]["data"]["refused"]
    assert [file["url"] for file in refused["files"]] == [urls[0], urls[2]]
    assert refused["files"][0]["reason"].startswith("superseded: now has ETag")


def test_a_file_of_bad_rows_is_to_blame_alone(trained: World, begin: Any) -> None:
    """Without it the batch is within what may be bad."""
    few_bad = make_flights(10)
    few_bad.loc[3, "carrier"] = "??"
    urls = [trained.upload("few.parquet", few_bad), trained.upload("all.parquet", make_flights(20).assign(month=99))]
    run = begin(trained, trained.parameters("scoring", urls))

    with pytest.raises(InputRefusedError, match="21 of 30 rows are bad"):
        run.stage("validation")

    [refused] = trained.announcements.events[-1]["data"]["refused"]["files"]
    assert refused["url"] == urls[1]
    assert refused["reason"] == "input_refused: 20 of 20 rows of 'all.parquet' are bad, at most 50% may be"


def test_a_file_whose_pages_are_damaged_is_named(trained: World, begin: Any) -> None:
    """Its footer is whole, so Spark is the first to stumble over it."""
    buffer = io.BytesIO()
    make_flights(5000).to_parquet(buffer)
    content = bytearray(buffer.getvalue())
    content[40 : len(content) // 2] = b"\xff" * (len(content) // 2 - 40)
    bad = trained.upload("bad pages.parquet", bytes(content))
    run = begin(trained, trained.parameters("scoring", [trained.upload("good.parquet", make_flights(10)), bad]))

    with pytest.raises(InputRefusedError, match=r"'bad pages\.parquet' cannot be read beyond its footer"):
        run.stage("validation")

    [refused] = trained.announcements.events[-1]["data"]["refused"]["files"]
    assert refused["url"] == bad


def test_a_failure_that_is_no_files_fault_blames_none(trained: World, begin: Any) -> None:
    url = trained.upload("june.parquet", make_flights(10))

    with pytest.raises(MissingPrerequisiteError):
        begin(trained, trained.parameters("scoring", [url], validation="false"))

    assert trained.announcements.events[-1]["data"]["refused"] is None


def test_a_disabled_stage_without_a_checkpoint_fails_before_any_work(trained: World, begin: Any) -> None:
    """R38: the message names what is missing, and the failure is announced."""
    url = trained.upload("june.parquet", make_flights(10))

    with pytest.raises(MissingPrerequisiteError, match="stage 'batch_scoring' needs 'validation', which is disabled"):
        begin(trained, trained.parameters("scoring", [url], validation="false"))

    event = trained.announcements.events[-1]
    check(event, "completion-event")
    assert [stage["outcome"] for stage in event["data"]["stages"]] == [
        "skipped_by_flag",
        *["skipped_by_upstream"] * 3,
    ]


def test_a_rerun_goes_on_from_the_checkpoints(trained: World, run_all: Any) -> None:
    """R38: stages that are switched off take what the earlier attempt left; the scores are those it computed."""
    url = trained.upload("june.parquet", make_flights(10))
    first = trained.parameters("scoring", [url], publish="false")
    done = dict.fromkeys(("validation", "feature_engineering", "batch_scoring"), "false")
    second = trained.parameters("scoring", [url], attempt=2, **done)
    assert run_all(trained, first)["outputs"] is None
    assert trained.scores_manifest(first) is None

    result = run_all(trained, second)

    assert [stage["outcome"] for stage in result["stages"]] == [*["skipped_by_flag"] * 3, "ran"]
    assert result["outputs"]["rows_scored"] == 10
    manifest = trained.scores_manifest(second)
    assert manifest is not None
    assert len(scored_rows(trained, manifest)) == 10


def test_training_goes_on_from_the_checkpoints(world: World, run_all: Any) -> None:
    """R38: the version that is registered is the one that the earlier attempt trained."""
    url = world.upload("history.parquet", make_flights(4000, months=(1, 2)))
    first = world.parameters("training", [url], evaluation="false", publish="false")
    second = world.parameters("training", [url], attempt=2, feature_engineering="false", training="false")
    made = run_all(world, first)["model"]
    assert made["version"] is None

    model = run_all(world, second)["model"]

    assert model["mlflow_run_id"] == made["mlflow_run_id"]
    assert (model["version"], model["is_champion"]) == ("1", True)


def test_training_on_fewer_rows_than_promised_is_refused(world: World, begin: Any) -> None:
    """Spark may pass over a file or a part of it without an error; a model of the rest would look like any other."""
    url = world.upload("history.parquet", make_flights(40, months=(1, 2)))
    fewer = BlobUrl.parse(world.upload("fewer.parquet", make_flights(39, months=(1, 2))))
    values = world.parameters("training", [url])
    services = world.services

    def passing_over(environment: Environment, dbutils: DbUtils) -> Services:
        return replace(services(environment, dbutils), spark_place=lambda _: world.store.place(fewer))

    world.services = passing_over  # type: ignore[method-assign]
    run = begin(world, values)

    with pytest.raises(InputRefusedError, match="the files' footers promise 40 rows, but 39 could be read"):
        run.stage("feature_engineering")


def test_training_again_registers_a_version_of_its_own(world: World, run_all: Any) -> None:
    """The second model is compared with the champion on the same held-out flights."""
    url = world.upload("history.parquet", make_flights(4000, months=(1, 2)))
    first = run_all(world, world.parameters("training", [url]))

    result = run_all(world, world.parameters("training", [url], run=2, seed="14"))

    assert result["model"]["version"] == "2"
    assert result["model"]["mlflow_run_id"] != first["model"]["mlflow_run_id"]
    assert "gate_champion_loss" in result["metrics"]
    assert "of champion version 1" in result["stages"][-1]["reason"]


def test_a_worse_model_does_not_become_champion(world: World, run_all: Any) -> None:
    """The alias stays, the version stays registered, and the reason is kept with it."""
    history = make_flights(4000, months=(1, 2))
    run_all(world, world.parameters("training", [world.upload("history.parquet", history)]))
    strange = history.assign(arr_delay=history["arr_delay"].where(history["month"] == 2, -4 * history["arr_delay"]))
    url = world.upload("strange.parquet", strange)

    result = run_all(world, world.parameters("training", [url], run=2, n_estimators="60", learning_rate="0.5"))

    assert result["model"] == result["model"] | {"version": "2", "is_champion": False}
    client = mlflow.MlflowClient()
    assert client.get_model_version_by_alias(MODEL, "champion").version in {1, "1"}
    assert "worse by more than the tolerance" in client.get_model_version(MODEL, "2").tags["tidegate_gate_reason"]


def test_an_unreachable_topic_does_not_fail_the_run(trained: World, run_all: Any) -> None:
    """The scores are there and the manifest proves it; the control plane announces the end instead."""
    trained.announcements.is_reachable = False
    values = trained.parameters("scoring", [trained.upload("june.parquet", make_flights(10))])

    assert run_all(trained, values)["status"] == "succeeded"


def test_a_version_that_is_not_registered_fails_the_run(trained: World, begin: Any) -> None:
    """The version was pinned when the run was decided; another one is never taken instead."""
    url = trained.upload("june.parquet", make_flights(10))
    run = begin(trained, trained.parameters("scoring", [url], model_version="9"))
    run.stage("validation")

    with pytest.raises(Exception, match="version 9"):
        run.stage("feature_engineering")

    assert trained.announcements.events[-1]["data"]["reason"].startswith("model_unavailable: ")


@dataclass(frozen=True, kw_only=True)
class Broken(FlightDelay):
    """Model code with one method that fails."""

    method: str

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_") and name == object.__getattribute__(self, "method"):
            return _fail
        return super().__getattribute__(name)


def _lose(world: World, folder: BlobUrl) -> None:
    """Delete what lies in a folder, as a person or a lifecycle rule may between two stages."""
    assert world.store.list_folder(folder)
    world.store.delete_folder(folder)


def _fail(*args: object, **named: object) -> NoReturn:
    raise OSError("no space left on device")


@pytest.mark.parametrize(
    ("kind", "stage", "method"),
    [
        ("training", "feature_engineering", "prepare"),
        ("training", "training", "fit"),
        ("training", "evaluation", "evaluate"),
        ("training", "publish", "gate_loss"),
        ("scoring", "validation", "row_problems"),
        ("scoring", "feature_engineering", "load"),
        ("scoring", "batch_scoring", "checkpoints"),
        ("scoring", "publish", "files"),
    ],
)
def test_a_failed_stage_fails_everything_it_should(
    trained: World, begin: Any, kind: str, stage: str, method: str
) -> None:
    """Whichever stage fails: the experiment run is FAILED, the event says failed and why, the notebook raises."""
    flights = make_flights(4000, months=(1, 2)) if kind == "training" else make_flights(10)
    values = trained.parameters(kind, [trained.upload("in.parquet", flights)], model_name="main.tidegate.broken")
    values = values if kind == "training" else values | {"model_name": MODEL}
    run = begin(trained, values, Broken(method=method))
    before = [name for name in STAGES[kind] if STAGES[kind].index(name) < STAGES[kind].index(stage)]
    for name in before:
        run.stage(name)
    if method == "checkpoints":
        _lose(trained, BlobUrl.parse(values["manifest_url"]).at("checkpoints/flight_delay_scoring"))
    if method == "files":
        _lose(trained, BlobUrl.parse(values["output_url"]).child("data"))

    with pytest.raises(Exception, match=r"no space left on device|no file with scores is left|the checkpoint of stage"):
        run.stage(stage)

    event = trained.announcements.events[-1]
    check(event, "completion-event")
    assert event["id"] == f"{values['run_id']}.1.failed"
    assert event["data"]["outputs"] is None
    outcomes = [result["outcome"] for result in event["data"]["stages"]]
    assert outcomes == ["ran"] * len(before) + ["failed"] + ["skipped_by_upstream"] * (3 - len(before))
    filter_string = f"tags.`tidegate.run_id` = '{values['run_id']}'"
    [found] = mlflow.search_runs(search_all_experiments=True, filter_string=filter_string, output_format="list")
    assert found.info.status == "FAILED"
    assert found.data.tags["tidegate.reason"] == event["data"]["reason"]
    with pytest.raises(StageOrderError):
        run.finish()


def test_two_trainers_at_once_register_their_own_models(world: World, begin: Any) -> None:
    """Each version is the one that its own run made, whoever registers first."""
    url = world.upload("history.parquet", make_flights(4000, months=(1, 2)))
    runs = [begin(world, world.parameters("training", [url], run=number, seed=str(number))) for number in (1, 2)]
    for run in runs:
        for stage in ("feature_engineering", "training", "evaluation"):
            run.stage(stage)

    for run in reversed(runs):
        run.stage("publish")
    first, second = (json.loads(run.finish())["model"] for run in runs)

    client = mlflow.MlflowClient()
    assert (first["version"], second["version"]) == ("2", "1")
    assert client.get_model_version(MODEL, "2").run_id == first["mlflow_run_id"]
    assert client.get_model_version(MODEL, "1").run_id == second["mlflow_run_id"]
    seeds = [client.get_run(model["mlflow_run_id"]).data.params["seed"] for model in (first, second)]
    assert seeds == ["1", "2"]

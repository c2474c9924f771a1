"""Tests the decisions of a run that need neither Spark nor a cloud."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from worlds import NOW, FolderStore, World

from tidegate_mlops.checkpoints import checkpoint_key
from tidegate_mlops.completion import RunFacts, completion_event
from tidegate_mlops.environment import Environment, SecretName
from tidegate_mlops.errors import (
    CheckpointLostError,
    InvalidEnvironmentError,
    InvalidManifestError,
    InvalidParametersError,
    MissingPrerequisiteError,
    RefusedFile,
    RunError,
    ScoreContractError,
    StageOrderError,
    SupersededError,
    reason_of,
)
from tidegate_mlops.gate import decide_promotion
from tidegate_mlops.manifest import InputFile, InputManifest
from tidegate_mlops.parameters import ScoringParameters, TrainingParameters, parse_parameters
from tidegate_mlops.plan import Plan, Stage, StageOutcome, StageResult
from tidegate_mlops.scores import Published, ScoreSet, publish_scores, score_discrepancies
from tidegate_mlops.urls import BlobUrl

INPUT = "https://tidegatelocal.blob.core.windows.net/input/flights/new/1/june.parquet"
WORSE = "loss 0.6200 against 0.6000 of champion version 3, worse by more than the tolerance of 0.01"
COLUMN = {"name": "score", "type": "double", "nullable": False}


@pytest.fixture
def scoring(world: World) -> dict[str, str]:
    """The strings of a scoring run over one file."""
    return world.parameters("scoring", [world.upload("june.parquet", b"PAR1")])


@pytest.fixture
def training(world: World) -> dict[str, str]:
    """The strings of a training run over one file."""
    return world.parameters("training", [world.upload("history.parquet", b"PAR1")])


def as_scoring(values: Mapping[str, str]) -> ScoringParameters:
    parameters = parse_parameters("scoring", values)
    assert isinstance(parameters, ScoringParameters)
    return parameters


def test_parameters_become_typed_values(training: dict[str, str]) -> None:
    """Strings at the border, values inside."""
    parameters = parse_parameters("training", training | {"evaluation": "false"})

    assert isinstance(parameters, TrainingParameters)
    assert parameters.attempt == 1
    assert (parameters.training, parameters.evaluation) == (True, False)
    assert parameters.knobs() == {"learning_rate": 0.1, "num_leaves": 4, "n_estimators": 5, "seed": 13}


def test_every_wrong_parameter_is_named_at_once(scoring: dict[str, str]) -> None:
    """Nothing is silently false, and nobody has to try again for the next mistake."""
    del scoring["batch_id"]
    wrong = {"publish": "yes", "manifest_url": "https://evil.example/x", "model_version": "latest", "extra": "1"}

    with pytest.raises(InvalidParametersError) as refused:
        parse_parameters("scoring", scoring | wrong)

    named = [problem.split("'")[1] for problem in refused.value.problems]
    assert named == ["batch_id", "extra", "manifest_url", "model_version", "publish"]


def test_a_run_without_any_stage_is_refused(scoring: dict[str, str]) -> None:
    """It would succeed and have done nothing."""
    stages = dict.fromkeys(("validation", "feature_engineering", "batch_scoring", "publish"), "false")

    with pytest.raises(InvalidParametersError, match="at least one stage"):
        Plan.of(as_scoring(scoring | stages))


def test_missing_prerequisites_are_all_named(training: dict[str, str]) -> None:
    """Before any work, with what to do."""
    plan = Plan.of(parse_parameters("training", training | {"feature_engineering": "false", "training": "false"}))

    with pytest.raises(MissingPrerequisiteError) as missing:
        plan.check_prerequisites(lambda stage: stage is Stage.FEATURE_ENGINEERING)

    assert missing.value.missing == (("evaluation", "training"), ("publish", "training"))


def test_stages_run_once_and_in_order(scoring: dict[str, str]) -> None:
    """A notebook with its cells out of order is a mistake, not another plan."""
    plan = Plan.of(as_scoring(scoring))
    plan.check_next(Stage.VALIDATION, ())

    with pytest.raises(StageOrderError):
        plan.check_next(Stage.BATCH_SCORING, (Stage.VALIDATION,))
    with pytest.raises(StageOrderError):
        plan.check_next(Stage.VALIDATION, plan.stages)


def test_checkpoints_depend_on_what_they_were_made_from(training: dict[str, str]) -> None:
    """R38: other knobs retrain but keep the features; another release keeps nothing; another attempt keeps all."""
    base, knobs, release, attempt = (
        parse_parameters("training", training | changed)
        for changed in ({}, {"seed": "14"}, {"release": "0.2.0+gabcdef1"}, {"attempt": "2", "token": "0" * 64})
    )
    features, model = Stage.FEATURE_ENGINEERING, Stage.TRAINING

    assert checkpoint_key(knobs, features) == checkpoint_key(base, features)
    assert checkpoint_key(knobs, model) != checkpoint_key(base, model)
    assert checkpoint_key(release, features) != checkpoint_key(base, features)
    assert checkpoint_key(attempt, model) == checkpoint_key(base, model)


def test_scoring_checkpoints_depend_on_the_pinned_model(scoring: dict[str, str]) -> None:
    """R38: checked rows serve every model; features and scores belong to one."""
    one, two = (as_scoring(scoring | {"model_version": version}) for version in ("1", "2"))

    assert checkpoint_key(one, Stage.VALIDATION) == checkpoint_key(two, Stage.VALIDATION)
    assert checkpoint_key(one, Stage.BATCH_SCORING) != checkpoint_key(two, Stage.BATCH_SCORING)


@pytest.mark.parametrize(
    ("challenger", "version", "champion", "is_promoted", "reason"),
    [
        (0.5, None, None, True, "there was no champion yet"),
        (0.5, "3", 0.6, True, "loss 0.5000 against 0.6000 of champion version 3, within the tolerance of 0.01"),
        (0.61, "3", 0.6, True, "loss 0.6100 against 0.6000 of champion version 3, within the tolerance of 0.01"),
        (
            0.62,
            "3",
            0.6,
            False,
            WORSE,
        ),
        (0.5, "3", None, False, "champion version 3 could not be measured, so it stays until a person moves the alias"),
        (float("nan"), None, None, False, "the challenger's loss is nan"),
        (float("inf"), "3", 0.6, False, "the challenger's loss is inf"),
    ],
)
def test_the_gate(
    challenger: float, version: str | None, champion: float | None, is_promoted: bool, reason: str
) -> None:
    """A challenger that is not measurably worse takes over; every decision has its sentence."""
    decision = decide_promotion(
        challenger_loss=challenger, champion_version=version, champion_loss=champion, tolerance=0.01
    )

    assert (decision.is_promoted, decision.reason) == (is_promoted, reason)


def test_a_manifest_is_the_one_that_was_decided(scoring: dict[str, str], world: World) -> None:
    """Its digest proves it, and its ids are compared all the same."""
    blob = world.store.read(BlobUrl.parse(scoring["manifest_url"]))
    assert blob is not None

    manifest = InputManifest.parse(blob.data, as_scoring(scoring))

    assert [str(file.url) for file in manifest.files] == [INPUT]
    assert manifest.summary()["file_count"] == 1
    with pytest.raises(InvalidManifestError, match="sha256"):
        InputManifest.parse(blob.data + b" ", as_scoring(scoring))
    with pytest.raises(InvalidManifestError, match="batch_id"):
        InputManifest.parse(blob.data, as_scoring(scoring | {"batch_id": "f" * 16}))


def test_a_blobs_name_too_long_for_an_event_is_left_to_the_manifest() -> None:
    """1,024 characters of a name may be nine thousand in its URL; the control plane must still read what names it."""
    long = BlobUrl.parse("https://acc.blob.core.windows.net/input/" + "%E2%82%AC" * 1024)
    files = (InputFile(url=long.at("a"), etag="0x1", size_bytes=1), InputFile(url=long, etag="0x2", size_bytes=1))
    manifest = InputManifest(url=INPUT, sha256="0" * 64, batch_id="0" * 16, files=files)

    summary = manifest.summary()

    assert (summary["file_count"], summary["files"]) == (2, [{"url": str(long.at("a")), "etag": "0x1"}])


def refused_in_event(scoring: dict[str, str], files: list[RefusedFile]) -> Any:
    facts = RunFacts(databricks_run_id=1, model=None, inputs=None, outputs=None, stages=[], metrics={}, refused=files)
    event: Any = completion_event(
        as_scoring(scoring), facts, outcome="failed", reason="input_refused: bad", traceparent="", now=NOW
    )
    return event["data"]["refused"]


def test_a_refused_file_whose_name_is_too_long_for_an_event_has_its_digest_there(scoring: dict[str, str]) -> None:
    """What cannot be read would be quarantined, and nobody would learn of the other refused files either."""
    long = "https://acc.blob.core.windows.net/input/" + "%E2%82%AC" * 500

    refused = refused_in_event(scoring, [RefusedFile(url=url, etag="0x1", reason="bad") for url in (long, INPUT)])

    # The control plane's tests have the same digest.
    assert refused == {
        "file_count": 2,
        "files": [{"url": INPUT, "etag": "0x1", "reason": "bad"}],
        "others": ["0b2bb4c46990"],
    }


def test_refused_files_beyond_what_an_event_can_name_have_their_digests_there(scoring: dict[str, str]) -> None:
    files = [RefusedFile(url=f"{INPUT}{index}", etag="0x1", reason="bad") for index in range(600)]

    refused = refused_in_event(scoring, files)

    assert refused["file_count"] == 600
    assert [file["url"] for file in refused["files"]] == [file.url for file in files[:20]]
    assert len(set(refused["others"])) == 200


def test_a_metric_that_is_no_number_does_not_cost_the_event(scoring: dict[str, str]) -> None:
    """JSON has no NaN: the topic refuses it, or the control plane does."""
    facts = RunFacts(
        databricks_run_id=1,
        model=None,
        inputs=None,
        outputs=None,
        stages=[],
        metrics={"gate_loss": float("nan"), "gate_champion_loss": float("inf"), "rows_in": 2.0},
    )

    event = completion_event(as_scoring(scoring), facts, outcome="completed", reason=None, traceparent="", now=NOW)

    data: Any = json.loads(json.dumps(event, allow_nan=False))["data"]
    assert data["metrics"] == {"rows_in": 2.0}


@pytest.mark.parametrize("character", ["x", '"', "\x00", "ü", "€", "😀"])
def test_the_largest_event_stays_under_64_kb(scoring: dict[str, str], character: str) -> None:
    """Every part as long as it may be, as it is sent: an event that is too large reaches nobody."""
    bad = [RefusedFile(url=f"{INPUT}{index}", etag="0x1", reason=character * 500) for index in range(500)]
    reason = reason_of(RunError(character * 5000))
    facts = RunFacts(
        databricks_run_id=1,
        model=None,
        inputs={"files": [{"url": "x" * 600, "etag": "0x1"}] * 20},
        outputs=None,
        stages=[StageResult(name=stage, outcome=StageOutcome.FAILED, duration_s=1e6, reason=reason) for stage in Stage],
        metrics={},
        consignment="input/" + character * 1024,
        replaces="p-20130701T030000Z-000000000001",
        refused=bad,
    )

    event = completion_event(as_scoring(scoring), facts, outcome="failed", reason=reason, traceparent="", now=NOW)

    data: Any = event["data"]
    assert len(json.dumps(event)) < 64 * 1024
    assert data["reason"][:14] == reason[:14]
    assert data["refused"]["file_count"] == 500
    assert data["refused"]["files"]
    assert len(data["refused"]["others"]) == 200


@pytest.mark.parametrize(
    ("url", "path", "abfss"),
    [
        ("https://acc.blob.core.windows.net/input/a/b.parquet", "a/b.parquet", "a/b.parquet"),
        ("https://acc.blob.core.windows.net/input/a%20b/%23%25.parquet", "a b/#%.parquet", "a b/#%.parquet"),
        ("https://acc.blob.core.windows.net/input/%5B1%5D%2A.parquet", "[1]*.parquet", "\\[1\\]\\*.parquet"),
        ("https://acc.blob.core.windows.net/scores/p/batch=1/x", "p/batch=1/x", "p/batch=1/x"),
    ],
)
def test_blob_urls(url: str, path: str, abfss: str) -> None:
    """A name is decoded once, written back as it came, and never taken for a pattern by Spark."""
    parsed = BlobUrl.parse(url)

    assert parsed.path == path
    assert BlobUrl.parse(str(parsed)) == parsed
    assert parsed.abfss == f"abfss://{parsed.container}@acc.dfs.core.windows.net/{abfss}"


@pytest.mark.parametrize(
    "url",
    [
        "http://acc.blob.core.windows.net/c/p",
        "https://acc.blob.core.windows.net.evil.example/c/p",
        "https://user@acc.blob.core.windows.net/c/p",
        "https://acc.blob.core.windows.net/c",
        "https://acc.blob.core.windows.net/c/../d/p",
        "https://acc.blob.core.windows.net/c/%2E%2E/p",
        "https://acc.blob.core.windows.net/c/p?sig=1",
    ],
)
def test_foreign_or_tricky_urls_are_refused(url: str) -> None:
    """A run reads and writes in its own storage only."""
    with pytest.raises(ValueError, match="blob"):
        BlobUrl.parse(url)


def test_the_environment_names_secrets_and_holds_none(tmp_path: Path) -> None:
    """Accounts of their own exist on the local cloud only."""
    file = tmp_path / "environment.json"
    secret = {"scope": "tidegate", "key": "eventgrid-topic-key"}
    document = {
        "environment": "local",
        "release": "1",
        "eventgrid_topic_endpoint": "http://127.0.0.1:1/",
        "eventgrid_key_secret": secret,
        "service_credential": None,
        "storage": {"accounts": {"acc": {"blob_endpoint": "http://127.0.0.1:2/acc", "key_secret": secret}}},
        "experiment": "/Shared/tidegate/local",
        "app_insights_secret": None,
    }
    file.write_text(json.dumps(document), encoding="utf-8")

    environment = Environment.read(file)

    assert environment.eventgrid_key_secret == SecretName(scope="tidegate", key="eventgrid-topic-key")
    assert environment.accounts["acc"].blob_endpoint == "http://127.0.0.1:2/acc"
    file.write_text(json.dumps(document | {"experiment": ""}), encoding="utf-8")
    with pytest.raises(InvalidEnvironmentError, match="'experiment' is '', expected a text"):
        Environment.read(file)
    with pytest.raises(InvalidEnvironmentError, match="deploy the release again"):
        Environment.read(tmp_path / "elsewhere.json")


def test_reasons_start_with_a_code_and_are_cut() -> None:
    """Subscribers match on the code; the schema limits the length."""
    assert reason_of(SupersededError("u", "1", None)) == "superseded: u is gone, the batch was made of ETag '1'"
    assert reason_of(OSError("disk full")) == "unexpected_error: OSError: disk full"
    assert len(reason_of(RunError("x" * 5000))) == 2000


def make_score_set(store: FolderStore, output: BlobUrl, execution: str, *, rows: int = 2) -> ScoreSet:
    folder = output.child(f"data/{execution}")
    store.put(folder.child("part-0.parquet"), b"scores")
    files = store.list_folder(folder)
    return ScoreSet(
        data_folder=folder,
        quarantine_folder=None,
        columns=[COLUMN],
        declared_columns=[COLUMN],
        score_column="score",
        rows_in=rows,
        rows_scored=rows,
        rows_quarantined=0,
        bad_scores=0,
        files=files,
        rows_in_files=rows,
        quarantine_files=[],
        rows_in_quarantine_files=0,
    )


def publish(store: FolderStore, scores: ScoreSet, values: Mapping[str, str]) -> bool:
    return publish_all(store, scores, values).is_ours


def publish_all(store: FolderStore, scores: ScoreSet, values: Mapping[str, str]) -> Published:
    parameters = as_scoring(values)
    blob = store.read(BlobUrl.parse(parameters.manifest_url))
    assert blob is not None
    manifest = InputManifest.parse(blob.data, parameters)
    return publish_scores(store, scores, parameters, manifest, mlflow_run_id="r", now=NOW)


class RivalStore(FolderStore):
    """A store in which another execution publishes just before ours can."""

    def __init__(self, root: Path, rival: "Mapping[str, str]", output: BlobUrl) -> None:
        super().__init__(root)
        self._rival, self._output, self._is_first = rival, output, True

    def create(self, url: BlobUrl, data: bytes) -> str | None:
        if self._is_first and url.name == "_manifest.json":
            self._is_first = False
            publish(FolderStore(self.root), make_score_set(self, self._output, "rival"), self._rival)
        return super().create(url, data)


def test_of_two_executions_at_once_one_publishes(world: World, scoring: dict[str, str]) -> None:
    """The other sees the manifest it lost against, confirms it, and removes its own files."""
    output = BlobUrl.parse(scoring["output_url"])
    store = RivalStore(world.store.root, scoring, output)

    is_ours = publish(store, make_score_set(store, output, "ours"), scoring)

    assert is_ours is False
    kept = [facts.url.path.removeprefix(output.path) for facts in store.list_folder(output)]
    assert kept == ["/_manifest.json", "/data/rival/part-0.parquet"]


def test_scores_whose_files_are_damaged_are_published_again(world: World, scoring: dict[str, str]) -> None:
    """A manifest that names files which are gone proves nothing."""
    output = BlobUrl.parse(scoring["output_url"])
    assert publish(world.store, make_score_set(world.store, output, "first"), scoring)
    world.store.delete_folder(output.child("data/first"))

    assert publish(world.store, make_score_set(world.store, output, "second"), scoring)


def test_an_attempt_that_was_thought_dead_leaves_a_later_ones_scores(world: World, scoring: dict[str, str]) -> None:
    """The later one may be of a release that counts otherwise; its end is announced with the manifest that it wrote."""
    output = BlobUrl.parse(scoring["output_url"])
    later = scoring | {"attempt": "2"}
    assert publish(world.store, make_score_set(world.store, output, "second", rows=3), later)
    published = world.scores_manifest(scoring)

    outputs = publish_all(world.store, make_score_set(world.store, output, "first"), scoring)

    assert outputs.is_ours is False
    assert outputs.outputs["rows_scored"] == 3
    assert world.scores_manifest(scoring) == published
    assert [facts.url.path.removeprefix(output.path) for facts in world.store.list_folder(output)] == [
        "/_manifest.json",
        "/data/second/part-0.parquet",
    ]


def test_scores_that_were_removed_meanwhile_are_not_published(world: World, scoring: dict[str, str]) -> None:
    """Scores from a checkpoint may be the published ones, which another run of the batch replaces and removes."""
    output = BlobUrl.parse(scoring["output_url"])
    first = make_score_set(world.store, output, "first")
    assert publish(world.store, first, scoring)
    url = world.upload("june.parquet", b"PAR1")
    other, late = (world.parameters("scoring", [url], run=run) for run in (2, 3))
    assert publish(world.store, make_score_set(world.store, output, "second"), other)

    with pytest.raises(CheckpointLostError):
        publish(world.store, first, late)

    manifest = world.scores_manifest(late)
    assert manifest is not None
    assert manifest["run_id"] == other["run_id"]
    assert all(world.store.facts(BlobUrl.parse(file["url"])) for file in manifest["files"])


def test_publishing_from_a_checkpoint_twice_keeps_the_files(world: World, scoring: dict[str, str]) -> None:
    """The second time the files are both ours and the published ones, so nothing may be removed."""
    output = BlobUrl.parse(scoring["output_url"])
    scores = make_score_set(world.store, output, "first")
    assert publish(world.store, scores, scoring)

    assert publish(world.store, scores, scoring) is False

    assert len(world.store.list_folder(output.child("data/first"))) == 1


@pytest.mark.parametrize(
    ("changed", "discrepancy"),
    [
        ({"rows_in": 3}, "3 rows came in, but 2 were scored and 0 quarantined"),
        ({"rows_in_files": 1}, "the files hold 1 scores, expected 2"),
        ({"bad_scores": 1}, "1 scores are null, NaN or infinite, expected none"),
        ({"files": []}, "no file with scores was written"),
        ({"rows_in_quarantine_files": 4}, "the quarantine holds 4 rows, expected 0"),
    ],
)
def test_scores_that_do_not_add_up_are_not_published(
    world: World, scoring: dict[str, str], changed: dict[str, object], discrepancy: str
) -> None:
    """Readers see nothing, and the reason says what is wrong."""
    from dataclasses import replace

    output = BlobUrl.parse(scoring["output_url"])
    scores = replace(make_score_set(world.store, output, "first"), **changed)

    assert discrepancy in score_discrepancies(scores)
    with pytest.raises(ScoreContractError):
        publish(world.store, scores, scoring)
    assert world.scores_manifest(scoring) is None


def test_undeclared_columns_are_not_published(world: World, scoring: dict[str, str]) -> None:
    """Readers rely on the declared ones, in their order."""
    from dataclasses import replace

    scores = make_score_set(world.store, BlobUrl.parse(scoring["output_url"]), "first")
    extra = [COLUMN, {"name": "delay", "type": "double", "nullable": False}]

    assert score_discrepancies(replace(scores, columns=extra))[0].startswith("the columns are ")

"""Tests that published scores are whole and declared, and of one execution."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from typed_parameters import as_scoring
from worlds import NOW, FolderStore, World

from tidegate_mlops.errors import CheckpointLostError, ScoreContractError
from tidegate_mlops.manifest import InputManifest
from tidegate_mlops.scores import Published, ScoreSet, publish_scores, score_discrepancies
from tidegate_mlops.urls import BlobUrl

COLUMN = {"name": "score", "type": "double", "nullable": False}


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
    output = BlobUrl.parse(scoring["output_url"])
    scores = replace(make_score_set(world.store, output, "first"), **changed)

    assert discrepancy in score_discrepancies(scores)
    with pytest.raises(ScoreContractError):
        publish(world.store, scores, scoring)
    assert world.scores_manifest(scoring) is None


def test_undeclared_columns_are_not_published(world: World, scoring: dict[str, str]) -> None:
    """Readers rely on the declared ones, in their order."""
    scores = make_score_set(world.store, BlobUrl.parse(scoring["output_url"]), "first")
    extra = [COLUMN, {"name": "delay", "type": "double", "nullable": False}]

    assert score_discrepancies(replace(scores, columns=extra))[0].startswith("the columns are ")

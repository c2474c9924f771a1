"""Holds work items to what they say, and their reader to refusing everything else."""

import json

import pytest
from hypothesis import given

from functions.core.errors import InvalidDocumentError
from functions.core.model import (
    PipelineKey,
)
from functions.core.work import WorkItem, WorkKind
from tests.strategies import work_items
from tests.support.documents import RUN_ID, json_values


@given(item=work_items)
def test_work_survives_the_queue(item: WorkItem) -> None:
    assert WorkItem.from_json(item.to_json()) == item


@given(document=json_values)
def test_anything_else_is_no_work(document: object) -> None:
    with pytest.raises(InvalidDocumentError):
        WorkItem.from_json(json.dumps(document))


def test_work_names_a_run_exactly_if_it_advances_one() -> None:
    text = WorkItem(kind=WorkKind.CLOSE_BATCH, pipeline=PipelineKey("p")).to_json()

    with pytest.raises(InvalidDocumentError, match="a run id for advance_run"):
        WorkItem.from_json(text.replace("close_batch", "advance_run"))
    with pytest.raises(ValueError, match="do not go together"):
        WorkItem(kind=WorkKind.CLOSE_BATCH, pipeline=PipelineKey("p"), run_id=RUN_ID)


def test_work_names_a_backfill_exactly_if_it_goes_on_with_one() -> None:
    text = WorkItem(kind=WorkKind.BACKFILL, pipeline=PipelineKey("p"), backfill_id="0" * 16).to_json()

    with pytest.raises(InvalidDocumentError, match="a backfill's id for backfill"):
        WorkItem.from_json(text.replace('"kind": "backfill"', '"kind": "close_batch"'))
    for kind, backfill_id in ((WorkKind.CLOSE_BATCH, "0" * 16), (WorkKind.BACKFILL, "")):
        with pytest.raises(ValueError, match="do not go together"):
            WorkItem(kind=kind, pipeline=PipelineKey("p"), backfill_id=backfill_id)


def test_work_names_pages_only_if_it_goes_on_with_a_backfill() -> None:
    item = WorkItem(kind=WorkKind.BACKFILL, pipeline=PipelineKey("p"), backfill_id="0" * 16, pages=3)
    other = WorkItem(kind=WorkKind.CLOSE_BATCH, pipeline=PipelineKey("p")).to_json()

    assert WorkItem.from_json(item.to_json()) == item
    with pytest.raises(InvalidDocumentError, match="pages for backfill"):
        WorkItem.from_json(other.replace('"tries"', '"pages": 3, "tries"'))
    with pytest.raises(ValueError, match="do not go together"):
        WorkItem(kind=WorkKind.CLOSE_BATCH, pipeline=PipelineKey("p"), pages=3)

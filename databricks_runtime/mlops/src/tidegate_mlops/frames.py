"""Reads, checks, scores and writes rows with Spark; nothing here brings rows to the driver but `training_rows`."""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Final
from urllib.parse import unquote

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own name for it
from pyspark.sql.types import StructType

from tidegate_mlops.input_files import AcceptedFile
from tidegate_mlops.ports import Model, ModelCode, PreparedData
from tidegate_mlops.urls import BlobUrl

__all__ = ["BAD_ROW_COLUMNS", "FEATURE_PREFIX", "Frames", "RowCounts", "ScoreStamp", "unreadable_path"]

SOURCE: Final = "source_file"
REASON: Final = "reason"
ORIGINAL: Final = "original"
BAD_ROW_COLUMNS: Final = (SOURCE, REASON, ORIGINAL)
FEATURE_PREFIX: Final = "feature_"  # a feature and an input column may share a name
MAX_TRAINING_ROWS: Final = 3_000_000
_FAILED_READ: Final = re.compile(r"\[FAILED_READ_FILE[^\]]*\] [^\n]{0,40}? reading file ([^\s]+?)\.?(?:\s|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCounts:
    """How many rows a pass saw, and how many of them it could not use."""

    rows: int
    bad: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreStamp:
    """What every score says about where it comes from."""

    model_name: str
    model_version: str
    run_id: str


@dataclass(frozen=True, kw_only=True)
class Frames[P: PreparedData, M: Model]:
    """The passes over the data of one run.

    Args:
        spark: makes or returns the session; called when the first row is needed.
        place: turns a blob's URL into what Spark calls it.
        code: the model's input contract.
    """

    spark: Callable[[], SparkSession]
    place: Callable[[BlobUrl], str]
    code: ModelCode[P, M]

    def training_rows(self, files: Sequence[AcceptedFile]) -> pd.DataFrame:
        """Return the rows of the files on the driver, where LightGBM trains in one process.

        Of more than `MAX_TRAINING_ROWS` rows (some 400 MB) a sample is taken by a hash of the key columns, so that
        the same files give the same sample however Spark splits them.
        """
        total = sum(file.rows for file in files)
        rows = self._read(files, training=True).drop(SOURCE)
        if total > MAX_TRAINING_ROWS:
            keep = int(1_000_000 * MAX_TRAINING_ROWS / total)
            rows = rows.where(F.pmod(F.xxhash64(*self.code.key_columns), F.lit(1_000_000)) < keep)
        table: pd.DataFrame = rows.toArrow().to_pandas()
        return table.sort_values(list(self.code.key_columns), ignore_index=True)  # any split, the same order

    def write_checked(self, files: Sequence[AcceptedFile], target: BlobUrl) -> RowCounts:
        """Write every row with its typed values, its file, and why it is bad, and return the counts."""
        types = self.code.input_types(training=False)
        schema = ", ".join(
            [f"`{name}` {kind}" for name, kind in types.items()] + [f"{name} string" for name in BAD_ROW_COLUMNS]
        )
        checked = self._read(files, training=False).mapInPandas(_checker(self.code, types), schema)
        seen = Observation()
        checked = checked.observe(seen, F.count(F.lit(1)).alias("rows"), F.count(REASON).alias("bad"))
        self._write(checked, target)
        return RowCounts(rows=int(seen.get["rows"]), bad=int(seen.get["bad"]))

    def commonest_reasons(self, checked: BlobUrl, limit: int) -> list[str]:
        """Return the commonest reasons for bad rows with their numbers; for messages, after something went wrong."""
        reasons = self._parquet(checked).where(F.col(REASON).isNotNull()).groupBy(REASON).count()
        rows = reasons.orderBy(F.desc("count"), REASON).limit(limit).collect()
        return [f"{row['count']} rows: {row[REASON]}" for row in rows]

    def count_by_file(self, checked: BlobUrl) -> dict[str, RowCounts]:
        """Return by the name of each file how many rows it had and how many were bad; after something went wrong."""
        counts = (
            self._parquet(checked).groupBy(SOURCE).agg(F.count(F.lit(1)).alias("rows"), F.count(REASON).alias("bad"))
        )
        return {row[SOURCE]: RowCounts(rows=row["rows"], bad=row["bad"]) for row in counts.toLocalIterator()}

    def write_features(self, checked: BlobUrl, model: M, target: BlobUrl) -> None:
        """Write key columns and features of every good row."""
        keys = {name: self.code.input_types(training=False)[name] for name in self.code.key_columns}
        columns = {**keys, **{FEATURE_PREFIX + name: "float" for name in model.feature_names()}}
        schema = ", ".join(f"`{name}` {kind}" for name, kind in columns.items())
        good = self._parquet(checked).where(F.col(REASON).isNull()).drop(*BAD_ROW_COLUMNS)
        self._write(good.mapInPandas(_featurizer(model, tuple(keys)), schema), target)

    def score_schema(self) -> StructType:
        """Return the columns that scores have.

        They are nullable for Spark, so that the counts below see a null; that there is none is then promised.
        """
        types = self.code.input_types(training=False)
        keys = ", ".join(f"`{name}` {types[name]}" for name in self.code.key_columns)
        stamp = "model_name string, model_version string, run_id string"
        return StructType.fromDDL(f"{keys}, `{self.code.score_column}` double, {stamp}")

    def write_scores(self, features: BlobUrl, model: M, stamp: ScoreStamp, target: BlobUrl) -> RowCounts:
        """Write one score per row of features and return how many there are, and how many are no finite number."""
        score = self.code.score_column
        scorer = _scorer(model, self.code.key_columns, score, stamp)
        scores = self._parquet(features).mapInPandas(scorer, self.score_schema())
        seen = Observation()
        is_bad = F.col(score).isNull() | F.isnan(score) | (F.abs(score) == F.lit(float("inf")))
        counted = scores.observe(seen, F.count(F.lit(1)).alias("rows"), F.sum(is_bad.cast("long")).alias("bad"))
        self._write(counted, target)
        return RowCounts(rows=int(seen.get["rows"]), bad=int(seen.get["bad"] or 0))

    def write_bad_rows(self, checked: BlobUrl, target: BlobUrl) -> None:
        """Write the bad rows as they were, with their file and reason."""
        self._write(self._parquet(checked).where(F.col(REASON).isNotNull()).select(*BAD_ROW_COLUMNS), target)

    def _read(self, files: Sequence[AcceptedFile], *, training: bool) -> DataFrame:
        """Return the wanted columns of all files and the file's name, one scan per group of equal storage types."""
        del training  # the accepted files carry the columns already
        groups: dict[tuple[tuple[str, str], ...], list[str]] = defaultdict(list)
        for file in files:
            groups[file.stored_types].append(self.place(file.url))
        reader = self.spark().read
        parts = []
        for types, paths in groups.items():
            schema = ", ".join(f"`{name}` {kind}" for name, kind in types)
            columns = [F.col(f"`{name}`") for name, _ in types]
            parts.append(
                reader.schema(schema).parquet(*paths).select(*columns, F.col("_metadata.file_name").alias(SOURCE))
            )
        return reduce(lambda left, right: _widened(left).unionByName(_widened(right)), parts)

    def _parquet(self, folder: BlobUrl) -> DataFrame:
        return self.spark().read.parquet(self.place(folder))

    def _write(self, rows: DataFrame, target: BlobUrl) -> None:
        writer = rows.write.mode("error").option("mapreduce.fileoutputcommitter.marksuccessfuljobs", "false")
        writer.parquet(self.place(target))


def unreadable_path(error: BaseException) -> str | None:
    """Return the path of the file that Spark says it could not read, or None if it says nothing of the kind.

    Source: error condition FAILED_READ_FILE of Spark 4 and Databricks; what kind of exception carries it depends on
    where it was raised, so its text decides.
    """
    found = _FAILED_READ.search(str(error))
    return None if found is None else unquote(found.group(1))


def _widened(rows: DataFrame) -> DataFrame:
    """Return the rows with every number as a double, so that files with different storage types can be joined."""
    return rows.select(
        *(F.col(f"`{name}`").cast("string" if kind == "string" else "double").alias(name) for name, kind in rows.dtypes)
    )


Batches = Callable[[Iterator[pd.DataFrame]], Iterator[pd.DataFrame]]


def _checker[P: PreparedData, M: Model](code: ModelCode[P, M], types: Mapping[str, str]) -> Batches:
    def check(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for rows in batches:
            reasons = code.row_problems(rows)
            is_bad = reasons != ""
            columns: dict[str, object] = {name: _typed(rows[name], kind, is_bad) for name, kind in types.items()}
            columns[SOURCE] = rows[SOURCE]
            columns[REASON] = reasons.mask(~is_bad)
            columns[ORIGINAL] = _as_json(rows.loc[is_bad, list(types)]).reindex(rows.index)
            yield pd.DataFrame(columns)

    return check


def typed_rows(rows: pd.DataFrame, types: Mapping[str, str]) -> pd.DataFrame:
    """Return good rows with the values' declared types."""
    good = pd.Series(data=False, index=rows.index)
    return pd.DataFrame({name: _typed(rows[name], kind, good) for name, kind in types.items()})


def _typed(values: "pd.Series[float]", kind: str, is_bad: "pd.Series[bool]") -> object:
    if kind == "string":
        return values.mask(is_bad)
    numbers = pd.to_numeric(values, errors="coerce").astype("float64")
    if kind == "double":
        return numbers
    if not is_bad.any():
        return numbers.astype(np.int64)
    return numbers.where(~is_bad).astype("Int64")


def _as_json(rows: pd.DataFrame) -> "pd.Series[str]":
    texts = [json.dumps(row, default=str) for row in rows.to_dict(orient="records")]
    return pd.Series(texts, index=rows.index, dtype=object)


def _featurizer(model: Model, keys: tuple[str, ...]) -> Batches:
    def make(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for rows in batches:
            yield pd.concat([rows[list(keys)], model.features(rows).add_prefix(FEATURE_PREFIX)], axis=1)

    return make


def _scorer(model: Model, keys: tuple[str, ...], score: str, stamp: ScoreStamp) -> Batches:
    names = [FEATURE_PREFIX + name for name in model.feature_names()]

    def make(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for rows in batches:
            features = rows[names].rename(columns=lambda name: str(name).removeprefix(FEATURE_PREFIX))
            scores = rows[list(keys)].assign(**{score: model.predict_features(features)})
            yield scores.assign(model_name=stamp.model_name, model_version=stamp.model_version, run_id=stamp.run_id)

    return make

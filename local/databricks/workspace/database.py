"""Opens the workspace's SQLite database, which outlives the process."""

import sqlite3
from pathlib import Path

__all__ = ["next_id", "open_database"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS ids (name TEXT PRIMARY KEY, last INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS objects (path TEXT PRIMARY KEY, object_id INTEGER NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS experiments (
    path TEXT PRIMARY KEY, experiment_id TEXT NOT NULL, created_ms INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS scopes (name TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS secrets (
    scope TEXT NOT NULL REFERENCES scopes(name) ON DELETE CASCADE,
    key TEXT NOT NULL, value BLOB NOT NULL, updated_ms INTEGER NOT NULL,
    PRIMARY KEY (scope, key)
);
CREATE TABLE IF NOT EXISTS clusters (cluster_id TEXT PRIMARY KEY, spec TEXT NOT NULL, state TEXT NOT NULL,
    created_ms INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS jobs (
    job_id INTEGER PRIMARY KEY, name TEXT NOT NULL, settings TEXT NOT NULL, flat INTEGER NOT NULL,
    queue_by_default INTEGER NOT NULL, creator TEXT NOT NULL, created_ms INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS runs (
    run_id INTEGER PRIMARY KEY, job_id INTEGER NOT NULL, life_cycle TEXT NOT NULL,
    run_type TEXT NOT NULL, start_ms INTEGER NOT NULL, deleted INTEGER NOT NULL DEFAULT 0, document TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS runs_by_job ON runs (job_id, life_cycle);
CREATE TABLE IF NOT EXISTS task_runs (task_run_id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS idempotency_tokens (token TEXT PRIMARY KEY, run_id INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS pending_model_versions (
    name TEXT NOT NULL, version TEXT NOT NULL, PRIMARY KEY (name, version)
);
CREATE TABLE IF NOT EXISTS experiment_runs (
    mlflow_run_id TEXT PRIMARY KEY, experiment_id TEXT NOT NULL, run_id INTEGER, task_run_id INTEGER
);
CREATE INDEX IF NOT EXISTS experiment_runs_by_run ON experiment_runs (run_id);
CREATE TABLE IF NOT EXISTS made_model_versions (
    name TEXT NOT NULL, version TEXT NOT NULL, run_id INTEGER NOT NULL, PRIMARY KEY (name, version)
);
"""


def open_database(path: Path) -> sqlite3.Connection:
    """Return the database at `path`, made if need be.

    Write-ahead logging keeps a commit under a millisecond and survives a kill at any moment.
    The connection commits each statement by itself; group statements with `with connection:` after `BEGIN`.
    """
    connection = sqlite3.connect(path, isolation_level=None)
    path.chmod(0o600)  # secrets are in it
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.executescript(_SCHEMA)
    return connection


def next_id(connection: sqlite3.Connection, name: str, first: int) -> int:
    """Return a number never given before under that name, also after a restart."""
    row = connection.execute(
        "INSERT INTO ids VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET last = last + 1 RETURNING last", (name, first)
    ).fetchone()
    return int(row["last"])

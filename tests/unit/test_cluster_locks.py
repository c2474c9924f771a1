"""Checks that the cluster's lock files say what the runtime has."""

from pathlib import Path

from local.databricks.cluster.lock import DEPARTURES, pins

_REPOSITORY = Path(__file__).resolve().parents[2]
_LOCKS = _REPOSITORY / "locks"
_RUNTIME = _REPOSITORY / "local" / "databricks" / "cluster" / "runtime-18.x-cpu-ml.txt"

# Part of the cluster though the vendor's list does not name them: Spark itself, pip, and a package of Windows only.
_UNLISTED = {"pyspark", "py4j", "pip", "colorama"}


def _pins(path: Path) -> dict[str, str]:
    found = pins(path.read_text(encoding="utf-8"))
    assert len(found) > 10
    return found


def test_the_cluster_environment_has_the_runtimes_versions() -> None:
    """A wheel that works locally must meet the same versions on the real cluster."""
    runtime = _pins(_RUNTIME) | DEPARTURES

    for name, version in _pins(_LOCKS / "cluster.txt").items():
        if name not in _UNLISTED:
            assert version.removesuffix(".0") == runtime[name].removesuffix(".0"), name


def test_a_release_ships_only_what_the_runtime_lacks() -> None:
    """Installing a release must never replace a package of the runtime."""
    shipped = _pins(_LOCKS / "cluster-release.txt")

    assert "azure-eventgrid" in shipped
    assert "azure-monitor-opentelemetry" in shipped
    assert shipped.keys().isdisjoint(_pins(_RUNTIME))
    assert shipped.keys().isdisjoint(_pins(_LOCKS / "cluster.txt"))

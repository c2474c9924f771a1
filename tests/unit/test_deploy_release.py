"""Tests how a release is named, built, assembled and uploaded, without a workspace."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from cli.deploy.environment import azure_target, local_target
from cli.deploy.release import REQUIREMENTS, Release, ReleaseFile, assemble
from cli.deploy.upload import upload_release
from cli.deploy.version import RELEASE_PATTERN, release_version, with_digest
from cli.deploy.wheels import Wheel, build_wheels
from cli.failures import CommandError
from local.supervisor.folders import REPOSITORY
from local.supervisor.ports import PORT_NAMES
from local.supervisor.settings import make_settings

_SETTINGS = make_settings({name: 20000 + offset for offset, name in enumerate(PORT_NAMES)})
_NOTEBOOK = b"# Databricks notebook source\nprint(1)\n"


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """The files that a release is made of, without git."""
    root = tmp_path / "sources"
    for name, content in (
        ("pyproject.toml", '[project]\nname = "tidegate"\nversion = "1.2.3"\n'),
        ("databricks_runtime/ml/model.py", "A = 1\n"),
        ("job_templates/scoring.json", "{}"),
        ("locks/cluster-release.txt", ""),
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (root / "notebooks").mkdir()
    (root / "notebooks" / "scoring.py").write_bytes(_NOTEBOOK)
    return root


def _git(root: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *identity, *arguments], cwd=root, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def committed(sources: Path) -> Path:
    """The same, committed."""
    _git(sources, "init", "-q")
    _git(sources, "add", ".")
    _git(sources, "commit", "-q", "-m", "one")
    return sources


class _Store:
    """A workspace's folders, in memory; fails at a chosen file."""

    def __init__(self, *, fails_at: str = "") -> None:
        self.files: dict[str, bytes] = {}
        self.order: list[str] = []
        self.fails_at = fails_at

    def files_below(self, folder: str) -> set[str]:
        return {path.removeprefix(f"{folder}/") for path in self.files if path.startswith(f"{folder}/")}

    def read(self, path: str, *, is_notebook: bool = False) -> bytes:
        return self.files[path]

    def make_folder(self, path: str) -> None: ...

    def write(self, folder: str, file: ReleaseFile, *, overwrite: bool) -> None:
        path = f"{folder}/{file.path}"
        if file.path == self.fails_at:
            raise ConnectionError(path)
        if path in self.files and not overwrite:
            raise FileExistsError(path)
        self.files[path] = file.content
        self.order.append(file.path)


def _release(sources: Path, version: str = "1.2.3+g0000000.d0123456789ab") -> Release:
    wheels = [Wheel(name="a-1-py3-none-any.whl", content=b"a"), Wheel(name="b-1-py3-none-any.whl", content=b"b")]
    return assemble(sources, local_target(_SETTINGS), version, wheels)


def test_a_clean_commit_names_the_release(committed: Path) -> None:
    commit = _git(committed, "rev-parse", "HEAD").strip()

    assert release_version(committed) == f"1.2.3+g{commit[:12]}"


@pytest.mark.parametrize("change", ["databricks_runtime/ml/model.py", "notebooks/new.py"])
def test_uncommitted_changes_of_the_sources_add_their_digest(committed: Path, change: str) -> None:
    (committed / change).write_text("A = 2\n")

    version = release_version(committed)

    assert re.fullmatch(r"1\.2\.3\+g[0-9a-f]{12}\.d[0-9a-f]{12}", version)
    assert version == release_version(committed)


def test_other_uncommitted_files_do_not_matter(committed: Path) -> None:
    (committed / "notes.txt").write_text("nothing to do with a release")

    assert ".d" not in release_version(committed)


def test_without_git_the_content_names_the_release(sources: Path) -> None:
    first = release_version(sources)
    (sources / "databricks_runtime/ml/model.py").write_text("A = 3\n")
    second = release_version(sources)

    assert first.startswith("1.2.3+g0000000.d")
    assert first != second


def test_sources_inside_a_foreign_repository_do_not_take_its_commit(sources: Path) -> None:
    _git(sources.parent, "init", "-q")
    _git(sources.parent, "commit", "-q", "--allow-empty", "-m", "foreign")

    assert release_version(sources).startswith("1.2.3+g0000000.d")


def test_versions_match_the_contract_of_the_job_parameters(sources: Path, committed: Path) -> None:
    schema = (REPOSITORY / "docs/contracts/parameters.schema.json").read_text()
    patterns = {
        json.loads(text) for text in re.findall(r'"release": \{\s*"type": "string",\s*"pattern": ("[^\n]+")', schema)
    }

    for version in (release_version(committed), with_digest("1.2.3+gabcdef012345", b"x"), "1.2.3+g0000000.d01234567"):
        assert RELEASE_PATTERN.fullmatch(version)
        for pattern in patterns:
            assert re.fullmatch(pattern, version)
    assert patterns


def test_the_wheels_have_the_version_of_the_project() -> None:
    version_file = (REPOSITORY / "databricks_runtime" / "version.py").read_text()

    assert f'"{release_version(REPOSITORY).partition("+")[0]}"' in version_file


def test_wheels_are_reproducible_and_carry_the_releases_version() -> None:
    one, other = (build_wheels(REPOSITORY, "1.2.3+g0123456789ab") for _ in range(2))

    assert [wheel.name for wheel in one] == [
        "tidegate_ml-1.2.3+g0123456789ab-py3-none-any.whl",
        "tidegate_mlops-1.2.3+g0123456789ab-py3-none-any.whl",
    ]
    assert [wheel.sha256 for wheel in one] == [wheel.sha256 for wheel in other]


def test_requirements_name_every_wheel_with_its_hash_relative_to_the_notebook(sources: Path) -> None:
    release = _release(sources)

    assert release.requirements.content.decode().splitlines() == [
        "../wheels/a-1-py3-none-any.whl --hash=sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",
        "../wheels/b-1-py3-none-any.whl --hash=sha256:3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d",
    ]
    assert release.folder == "/Tidegate/local/releases/1.2.3+g0000000.d0123456789ab"


def test_a_file_that_is_no_notebook_is_refused(sources: Path) -> None:
    (sources / "notebooks" / "stray.py").write_text("print(1)\n")

    with pytest.raises(CommandError, match=r"stray\.py is no source-format notebook"):
        _release(sources)


def test_the_environment_holds_no_secret(sources: Path) -> None:
    content = local_target(_SETTINGS).environment_json("1.2.3+gabcdef0").decode()

    for secret in (_SETTINGS.account_key, _SETTINGS.topic_key, _SETTINGS.databricks_token, _SETTINGS.function_key):
        assert secret not in content
    assert json.loads(content)["release"] == "1.2.3+gabcdef0"


def test_requirements_are_uploaded_last(sources: Path) -> None:
    store, release = _Store(), _release(sources)

    written = upload_release(store, release)

    assert store.order[-1] == REQUIREMENTS
    assert set(written) == {
        "notebooks/scoring",
        "wheels/a-1-py3-none-any.whl",
        "wheels/b-1-py3-none-any.whl",
        "environment.json",
        REQUIREMENTS,
    }


def test_a_second_upload_writes_nothing(sources: Path) -> None:
    store, release = _Store(), _release(sources)
    upload_release(store, release)
    before = list(store.order)

    assert upload_release(store, release) == []
    assert store.order == before


def test_an_interrupted_upload_goes_on_and_writes_only_what_is_missing(sources: Path) -> None:
    store, release = _Store(fails_at="environment.json"), _release(sources)
    with pytest.raises(ConnectionError):
        upload_release(store, release)
    assert REQUIREMENTS not in store.files_below(release.folder)
    store.fails_at = ""

    written = upload_release(store, release)

    assert "wheels/a-1-py3-none-any.whl" not in written
    assert written[-1] == REQUIREMENTS
    assert "environment.json" in written


def test_a_whole_release_with_other_wheels_is_never_overwritten(sources: Path) -> None:
    store, release = _Store(), _release(sources)
    upload_release(store, release)
    store.files[f"{release.folder}/{REQUIREMENTS}"] = b"other"
    before = dict(store.files)

    with pytest.raises(CommandError, match="is never overwritten"):
        upload_release(store, release)
    assert store.files == before


def test_a_damaged_release_is_named(sources: Path) -> None:
    store, release = _Store(), _release(sources)
    upload_release(store, release)
    del store.files[f"{release.folder}/environment.json"]

    with pytest.raises(CommandError, match=r"environment\.json missing"):
        upload_release(store, release)


def test_deploying_to_azure_names_every_missing_variable_and_has_no_key() -> None:
    with pytest.raises(CommandError, match="EVENTGRID_TOPIC_ENDPOINT, TIDEGATE_SERVICE_CREDENTIAL"):
        azure_target("dev", {"DATABRICKS_HOST": "https://adb-1.7.azuredatabricks.net"})

    target = azure_target(
        "dev",
        {
            "DATABRICKS_HOST": "https://adb-1.7.azuredatabricks.net",
            "EVENTGRID_TOPIC_ENDPOINT": "https://t.westeurope-1.eventgrid.azure.net/api/events",
            "TIDEGATE_SERVICE_CREDENTIAL": "tidegate",
        },
    )

    assert target.secrets == {}
    assert target.document["eventgrid_key_secret"] is None
    assert "storage" not in target.document

"""Reads and writes a Databricks workspace for a deployment, through the SDK."""

import base64
import io
from collections.abc import Mapping

from databricks.sdk import WorkspaceClient
from databricks.sdk.config import Config
from databricks.sdk.errors import NotFound, ResourceAlreadyExists
from databricks.sdk.service.jobs import Job
from databricks.sdk.service.workspace import ExportFormat, ImportFormat, Language, ObjectType

from cli.deploy.environment import Target
from cli.deploy.release import ReleaseFile
from cli.deploy.templates import RenderedJob
from cli.failures import CommandError

__all__ = ["Workspace"]


class Workspace:
    """One workspace, in the verbs of a deployment."""

    def __init__(self, target: Target) -> None:
        config = Config() if target.token is None else Config(host=target.host, token=target.token, auth_type="pat")
        self._client = WorkspaceClient(config=config)
        self.host = config.host

    def files_below(self, folder: str) -> set[str]:
        """Return the paths of all files and notebooks below a folder, relative to it; none if it does not exist."""
        try:
            objects = list(self._client.workspace.list(folder, recursive=True))
        except NotFound:
            return set()
        return {
            item.path.removeprefix("/Workspace").removeprefix(f"{folder}/")
            for item in objects
            if item.path is not None and item.object_type is not ObjectType.DIRECTORY
        }

    def read(self, path: str, *, is_notebook: bool = False) -> bytes:
        """Return the content of a file, or the source of a notebook."""
        answer = self._client.workspace.export(path, format=ExportFormat.SOURCE if is_notebook else ExportFormat.AUTO)
        return base64.b64decode(answer.content or "")

    def make_folder(self, path: str) -> None:
        """Create a folder and those above it; harmless if it is there."""
        self._client.workspace.mkdirs(path)

    def write(self, folder: str, file: ReleaseFile, *, overwrite: bool) -> None:
        """Write one file of a release.

        Raises:
            CommandError: It is there and `overwrite` is false: somebody else deploys the same release now.
        """
        path = f"{folder}/{file.path}"
        try:
            if file.is_notebook:
                self._client.workspace.import_(
                    path,
                    content=base64.b64encode(file.content).decode(),
                    format=ImportFormat.SOURCE,
                    language=Language.PYTHON,
                    overwrite=overwrite,
                )
            else:
                self._client.workspace.upload(
                    path, io.BytesIO(file.content), format=ImportFormat.AUTO, overwrite=overwrite
                )
        except ResourceAlreadyExists as error:
            raise CommandError(
                f"{path} appeared meanwhile: another deployment is at work; repeat the command"
            ) from error

    def job(self, name: str) -> Job | None:
        """Return the job of that name, whole; None if there is none.

        Raises:
            CommandError: Several jobs have the name.
        """
        found = [job.job_id for job in self._client.jobs.list(name=name) if job.settings and job.settings.name == name]
        if len(found) > 1:
            raise CommandError(
                f"{len(found)} jobs are called {name!r} (ids {', '.join(map(str, found))}); delete all but one"
            )
        return self._client.jobs.get(found[0]) if found and found[0] is not None else None

    def create_job(self, job: RenderedJob) -> int:
        """Create a job; return its id."""
        settings = job.typed()
        fields = {name: value for name, value in vars(settings).items() if value is not None}
        return self._client.jobs.create(**fields).job_id or 0

    def reset_job(self, job_id: int, job: RenderedJob) -> None:
        """Replace all settings of a job."""
        self._client.jobs.reset(job_id, new_settings=job.typed())

    def put_secrets(self, scope: str, secrets: Mapping[str, str]) -> list[str]:
        """Put secrets into a scope, made if need be; return the keys that were not as wanted."""
        if scope not in {found.name for found in self._client.secrets.list_scopes()}:
            self._client.secrets.create_scope(scope)
        there = {found.key for found in self._client.secrets.list_secrets(scope)}
        changed = [key for key, value in secrets.items() if key not in there or self._secret(scope, key) != value]
        for key in changed:
            self._client.secrets.put_secret(scope, key, string_value=secrets[key])
        return changed

    def _secret(self, scope: str, key: str) -> str:
        return base64.b64decode(self._client.secrets.get_secret(scope, key).value or "").decode()

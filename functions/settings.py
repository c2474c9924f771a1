"""Parses the app settings once, naming everything that is missing or wrong in one error."""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from functions.core.cron import Cron, CronError
from functions.core.errors import InvalidSettingsError, Problem

__all__ = ["Settings", "StorageSettings", "parse_settings"]

_CONNECTION: Final = "TIDEGATE_STORAGE"
_ACCOUNT: Final = r"[a-z0-9]{3,24}"
_LEAST_RETENTION_DAYS: Final = 61  # Databricks keeps its runs for 60; after that the ledger alone knows of them
_MOST_RETENTION_DAYS: Final = 36_500
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSettings:
    """How to reach the storage account: by identity on Azure, by a connection string on the local cloud."""

    account: str
    connection_string: str | None  # None: sign in with the app's identity

    def __repr__(self) -> str:  # a connection string holds a key, which no log may show
        return f"StorageSettings(account={self.account!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What differs between environments."""

    environment: str
    storage: StorageSettings
    databricks_host: str
    eventgrid_topic_endpoint: str
    eventgrid_topic_key: str | None  # None: sign in with the app's identity
    applicationinsights_connection_string: str | None
    azure_client_id: str | None  # of a user-assigned identity; None: the system-assigned one
    pipelines_file: Path
    table_prefix: str
    arrivals_queue: str
    dispatch_queue: str
    completions_queue: str
    are_roles_required: bool  # whether callers over HTTP need an app role
    sweep_schedule: str
    sweep_grace_s: int
    retention: timedelta | None  # after which what is settled leaves the ledger; None: it is kept

    def __repr__(self) -> str:  # keys stay out of logs
        return f"Settings(environment={self.environment!r}, storage={self.storage!r}, host={self.databricks_host!r})"


def parse_settings(environ: Mapping[str, str], *, app_dir: Path) -> Settings:
    """Return the settings in `environ`.

    Args:
        environ: The app settings as the Functions host hands them over; an empty one counts as missing.
        app_dir: The folder of function_app.py, in which a relative pipelines file is looked for.

    Raises:
        InvalidSettingsError: Some are missing or wrong; names all of them, never a secret's value.
    """
    reader = _SettingsReader(environ)
    settings = Settings(
        environment=reader.text("TIDEGATE_ENVIRONMENT", r"[a-z][a-z0-9]{0,15}", "a name like dev, at most 16 long"),
        storage=reader.storage(),
        databricks_host=reader.url("DATABRICKS_HOST", has_path=False),
        eventgrid_topic_endpoint=reader.url("EVENTGRID_TOPIC_ENDPOINT"),
        eventgrid_topic_key=reader.optional("EVENTGRID_TOPIC_KEY"),
        applicationinsights_connection_string=reader.telemetry(),
        azure_client_id=reader.optional("AZURE_CLIENT_ID", r"[0-9a-fA-F-]{36}", "a client id: a GUID"),
        pipelines_file=app_dir / (reader.optional("TIDEGATE_PIPELINES_FILE") or "pipelines.toml"),
        table_prefix=reader.optional("TIDEGATE_TABLE_PREFIX", r"[A-Za-z][A-Za-z0-9]{0,40}", "letters and digits")
        or "tidegate",
        arrivals_queue=reader.queue("TIDEGATE_ARRIVALS_QUEUE", "arrivals"),
        dispatch_queue=reader.queue("TIDEGATE_DISPATCH_QUEUE", "dispatch"),
        completions_queue=reader.queue("TIDEGATE_COMPLETIONS_QUEUE", "completions"),
        are_roles_required=reader.flag("TIDEGATE_REQUIRE_ROLES"),
        sweep_schedule=reader.schedule("TIDEGATE_SWEEP_SCHEDULE", "0 */15 * * * *"),
        sweep_grace_s=reader.seconds("TIDEGATE_SWEEP_GRACE_SECONDS", default=900, minimum=60, maximum=86_400),
        retention=reader.days("TIDEGATE_RETENTION_DAYS", least=_LEAST_RETENTION_DAYS),
    )
    reader.compare_queues(settings.arrivals_queue, settings.dispatch_queue, settings.completions_queue)
    if reader.problems:
        raise InvalidSettingsError(reader.problems)
    return settings


class _SettingsReader:
    """Reads settings one by one; what is wrong goes into a list, and reading goes on."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[Problem] = []

    def text(self, name: str, pattern: str, expected: str) -> str:
        value = self._environ.get(name, "")
        if not value:
            self._refuse(name, "nothing", expected)
        elif not re.fullmatch(pattern, value):
            self._refuse(name, "another value", expected)
        return value

    def optional(self, name: str, pattern: str = ".+", expected: str = "a value") -> str | None:
        value = self._environ.get(name) or None
        if value is not None and not re.fullmatch(pattern, value, flags=re.DOTALL):
            self._refuse(name, "another value", expected)
        return value

    def flag(self, name: str) -> bool:
        return self.optional(name, "true|false", "true or false") == "true"

    def days(self, name: str, *, least: int) -> timedelta | None:
        value = self._environ.get(name) or None
        if value is None:
            return None
        is_number = re.fullmatch("[0-9]{1,5}", value) is not None
        if not is_number or not least <= int(value) <= _MOST_RETENTION_DAYS:
            self._refuse(
                name,
                value if is_number else "another value",
                f"a whole number of days from {least} to {_MOST_RETENTION_DAYS}",
            )
            return None
        return timedelta(days=int(value))

    def url(self, name: str, *, has_path: bool = True) -> str:
        without = "user, query or fragment" if has_path else "path, user, query or fragment"
        expected = f"an https URL (http only on this machine) without {without}"
        value = self._environ.get(name, "")
        if not value:
            self._refuse(name, "nothing", expected)
            return ""
        try:
            parts = urlsplit(value)
            host = parts.hostname or ""
            is_right = parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)
            is_right = is_right and parts.port != 0  # reading it refuses what is no port
            is_right = is_right and bool(host) and "@" not in parts.netloc and not parts.query and not parts.fragment
            is_right = is_right and (has_path or parts.path in {"", "/"})
        except ValueError:
            is_right = False
        if not is_right:
            self._refuse(name, "another value", expected)
        return value.rstrip("/")

    def queue(self, name: str, default: str) -> str:
        pattern = r"(?=.{3,56}$)[a-z0-9](-?[a-z0-9])+"  # with -poison after it, a name has at most 63
        return self.optional(name, pattern, "a queue's name, at most 56 long") or default

    def schedule(self, name: str, default: str) -> str:
        value = self._environ.get(name) or default
        try:
            Cron.parse(value)
        except CronError as error:
            self._refuse(name, "another value", str(error))
        return value

    def seconds(self, name: str, *, default: int, minimum: int, maximum: int) -> int:
        value = self.optional(name, r"[0-9]{1,9}", f"a whole number from {minimum} to {maximum}")
        seconds = default if value is None or not value.isdecimal() else int(value)
        if not minimum <= seconds <= maximum:
            self._refuse(name, str(seconds), f"a whole number from {minimum} to {maximum}")
        return seconds

    def compare_queues(self, *names: str) -> None:
        if len(set(names)) < len(names):
            self._refuse("TIDEGATE_*_QUEUE", "one name twice", "three different queues")

    def telemetry(self) -> str | None:
        pattern = r"(.*;)?InstrumentationKey=[0-9a-fA-F-]{36}(;.*)?"
        name = "APPLICATIONINSIGHTS_CONNECTION_STRING"
        return self.optional(name, pattern, "InstrumentationKey=<guid>;IngestionEndpoint=…")

    def storage(self) -> StorageSettings:
        """Read the connection the way the Functions host resolves it for the queue triggers."""
        account_name = f"{_CONNECTION}__accountName"
        connection = self._environ.get(_CONNECTION) or None
        account = self._environ.get(account_name) or None
        if connection is None and account is None:
            self._refuse(f"{_CONNECTION} or {account_name}", "nothing", "a connection string, or an account's name")
        elif connection is not None and account is not None:
            self._refuse(f"{_CONNECTION} and {account_name}", "both", "one of them")
        elif connection is not None:
            account = _account_of(connection)
            if account is None:
                expected = "AccountName=<name>;AccountKey=<base64>;…, each key once and with a value"
                self._refuse(_CONNECTION, "another value", f"a connection string like {expected}")
        elif account is not None and not re.fullmatch(_ACCOUNT, account):
            self._refuse(account_name, "another value", "an account's name")
        return StorageSettings(account=account or "", connection_string=connection)

    def _refuse(self, name: str, got: str, expected: str) -> None:
        self.problems.append(Problem(name, got, expected))


def _account_of(connection: str) -> str | None:
    """Return the account that a connection string names, or None if a storage client could not be made of it.

    The clients of the three services are made at their first use and read it differently; what one of them refuses
    only then would fail every message instead of turning health red.
    """
    parts = [part.partition("=") for part in connection.rstrip(";").split(";")]
    fields = {key: value for key, _, value in parts}
    if len({key.lower() for key in fields}) < len(parts) or not all(
        key.strip() and value.strip() for key, value in fields.items()
    ):
        return None
    account, key = fields.get("AccountName", ""), fields.get("AccountKey", "")  # the ledger signs with nothing else
    is_right = (
        re.fullmatch(_ACCOUNT, account) is not None
        and _is_base64(key)
        and fields.get("DefaultEndpointsProtocol", "https") in {"http", "https"}
        and all(_is_endpoint(value) for name, value in fields.items() if name.endswith("Endpoint"))
    )
    return account if is_right else None


def _is_base64(text: str) -> bool:
    try:
        return bool(base64.b64decode(text))  # as leniently as those who sign with it
    except ValueError:
        return False


def _is_endpoint(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False

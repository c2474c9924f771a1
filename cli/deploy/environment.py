"""Describes what differs between environments: where the jobs publish, and where their secrets are. Holds no secret."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cli.failures import CommandError
from local.supervisor.settings import ACCOUNT, CloudSettings

__all__ = ["SCOPE", "Target", "azure_target", "local_target"]

SCOPE = "tidegate"
_TOPIC_KEY = "eventgrid-topic-key"
_ACCOUNT_KEY = "storage-account-key"
_APP_INSIGHTS = "app-insights-connection-string"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a release goes, and what its jobs find there."""

    environment: str
    document: Mapping[str, Any]  # environment.json without the release's name
    secrets: Mapping[str, str] = field(default_factory=dict[str, str])  # put into the scope: on the local cloud only
    host: str | None = None  # None: the SDK's own choice, from its environment variables or profile
    token: str | None = field(default=None, repr=False)

    def environment_json(self, release: str) -> bytes:
        """Return environment.json of a release."""
        return (json.dumps({**self.document, "release": release}, indent=2, sort_keys=True) + "\n").encode()


def local_target(settings: CloudSettings) -> Target:
    """Return the running local cloud."""
    return Target(
        environment="local",
        document={
            "environment": "local",
            "eventgrid_topic_endpoint": settings.topic_endpoint,
            "eventgrid_key_secret": {"scope": SCOPE, "key": _TOPIC_KEY},
            "service_credential": None,
            "storage": {
                "accounts": {
                    ACCOUNT: {
                        "blob_endpoint": settings.blob_endpoint,
                        "key_secret": {"scope": SCOPE, "key": _ACCOUNT_KEY},
                    }
                }
            },
            "experiment": "/Shared/tidegate/local",
            "app_insights_secret": {"scope": SCOPE, "key": _APP_INSIGHTS},
        },
        secrets={
            _TOPIC_KEY: settings.topic_key,
            _ACCOUNT_KEY: settings.account_key,
            _APP_INSIGHTS: settings.app_insights_connection_string,
        },
        host=settings.url("workspace"),
        token=settings.databricks_token,
    )


def azure_target(environment: str, environ: Mapping[str, str] = os.environ) -> Target:
    """Return a workspace on Azure, whose jobs use a service credential and no key.

    Raises:
        CommandError: Variables are missing; all of them are named.
    """
    needed = ("DATABRICKS_HOST", "EVENTGRID_TOPIC_ENDPOINT", "TIDEGATE_SERVICE_CREDENTIAL")
    missing = [name for name in needed if not environ.get(name)]
    if missing:
        raise CommandError(f"to deploy to {environment!r}, set {', '.join(missing)}")
    scope, _, key = environ.get("TIDEGATE_APP_INSIGHTS_SECRET", "").partition("/")
    return Target(
        environment=environment,
        document={
            "environment": environment,
            "eventgrid_topic_endpoint": environ["EVENTGRID_TOPIC_ENDPOINT"],
            "eventgrid_key_secret": None,
            "service_credential": environ["TIDEGATE_SERVICE_CREDENTIAL"],
            "experiment": f"/Shared/tidegate/{environment}",
            "app_insights_secret": {"scope": scope, "key": key} if scope and key else None,
        },
    )

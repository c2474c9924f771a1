"""Tests what a run is told about the environment that it is in."""

import json
from pathlib import Path

import pytest

from tidegate_mlops.environment import Environment, SecretName
from tidegate_mlops.errors import InvalidEnvironmentError


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

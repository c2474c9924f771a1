"""Holds the settings to one error that names everything, without a secret."""

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.core.errors import InvalidSettingsError
from functions.settings import Settings, StorageSettings, parse_settings

APP = Path("app")
CONNECTION = (
    "DefaultEndpointsProtocol=http;AccountName=tidegatelocal;AccountKey=c2VjcmV0==;BlobEndpoint=http://127.0.0.1:1/x;"
)
LOCAL = {
    "TIDEGATE_ENVIRONMENT": "local",
    "TIDEGATE_STORAGE": CONNECTION,
    "DATABRICKS_HOST": "http://127.0.0.1:8443/",
    "EVENTGRID_TOPIC_ENDPOINT": "http://127.0.0.1:9/topics/tidegate-completions/api/events",
    "EVENTGRID_TOPIC_KEY": "key",
}
AZURE = {
    "TIDEGATE_ENVIRONMENT": "prod",
    "TIDEGATE_STORAGE__accountName": "contoso",
    "DATABRICKS_HOST": "https://adb-1.2.azuredatabricks.net",
    "EVENTGRID_TOPIC_ENDPOINT": "https://t.westeurope-1.eventgrid.azure.net/api/events",
    "APPLICATIONINSIGHTS_CONNECTION_STRING": "InstrumentationKey=00000000-0000-0000-0000-000000000000",
    "AZURE_CLIENT_ID": "00000000-0000-0000-0000-000000000001",
}


def mistakes_of(environ: dict[str, str]) -> dict[str, str]:
    with pytest.raises(InvalidSettingsError) as refused:
        parse_settings(environ, app_dir=APP)
    return {problem.place: problem.got for problem in refused.value.problems}


def test_local_settings_are_understood() -> None:
    settings = parse_settings(LOCAL, app_dir=APP)

    assert settings.storage == StorageSettings(account="tidegatelocal", connection_string=CONNECTION)
    assert settings.databricks_host == "http://127.0.0.1:8443"
    assert settings.eventgrid_topic_key == "key"
    assert settings.pipelines_file == APP / "pipelines.toml"
    assert (settings.table_prefix, settings.arrivals_queue) == ("tidegate", "arrivals")
    assert (settings.dispatch_queue, settings.completions_queue) == ("dispatch", "completions")
    assert (settings.applicationinsights_connection_string, settings.azure_client_id) == (None, None)
    assert (settings.sweep_schedule, settings.sweep_grace_s) == ("0 */15 * * * *", 900)


def test_the_sweep_has_a_schedule_and_a_grace_period() -> None:
    settings = parse_settings(
        LOCAL | {"TIDEGATE_SWEEP_SCHEDULE": "0 0 * * * *", "TIDEGATE_SWEEP_GRACE_SECONDS": "60"}, app_dir=APP
    )

    assert (settings.sweep_schedule, settings.sweep_grace_s) == ("0 0 * * * *", 60)


@pytest.mark.parametrize("seconds", ["59", "86401", "x", "-1", "6e1"])
def test_a_wrong_sweep_is_refused(seconds: str) -> None:
    wrong = {"TIDEGATE_SWEEP_SCHEDULE": "often", "TIDEGATE_SWEEP_GRACE_SECONDS": seconds}

    assert set(mistakes_of(LOCAL | wrong)) == set(wrong)


def test_app_roles_are_required_where_the_setting_says_so() -> None:
    assert not parse_settings(LOCAL, app_dir=APP).are_roles_required
    assert not parse_settings(LOCAL | {"TIDEGATE_REQUIRE_ROLES": "false"}, app_dir=APP).are_roles_required
    assert parse_settings(LOCAL | {"TIDEGATE_REQUIRE_ROLES": "true"}, app_dir=APP).are_roles_required


def test_azure_needs_no_secret() -> None:
    """R30, DESIGN 2.16: identity everywhere."""
    settings = parse_settings(AZURE, app_dir=APP)

    assert settings.storage == StorageSettings(account="contoso", connection_string=None)
    assert (settings.eventgrid_topic_key, settings.azure_client_id) == (None, AZURE["AZURE_CLIENT_ID"])


def test_everything_that_is_missing_is_named_at_once() -> None:
    assert mistakes_of({}) == dict.fromkeys(
        [
            "TIDEGATE_ENVIRONMENT",
            "TIDEGATE_STORAGE or TIDEGATE_STORAGE__accountName",
            "DATABRICKS_HOST",
            "EVENTGRID_TOPIC_ENDPOINT",
        ],
        "nothing",
    )


def test_empty_setting_is_a_missing_one() -> None:
    assert mistakes_of(dict.fromkeys(LOCAL, "")) == mistakes_of({})


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"TIDEGATE_ENVIRONMENT": "Prod"}, "TIDEGATE_ENVIRONMENT"),
        ({"TIDEGATE_REQUIRE_ROLES": "yes"}, "TIDEGATE_REQUIRE_ROLES"),
        ({"TIDEGATE_ENVIRONMENT": "a" * 17}, "TIDEGATE_ENVIRONMENT"),
        ({"TIDEGATE_STORAGE": "UseDevelopmentStorage=true"}, "TIDEGATE_STORAGE"),
        ({"TIDEGATE_STORAGE": "AccountName=A"}, "TIDEGATE_STORAGE"),
        ({"TIDEGATE_STORAGE": "AccountName=contoso"}, "TIDEGATE_STORAGE"),
        ({"TIDEGATE_STORAGE": "AccountName=contoso;AccountKey="}, "TIDEGATE_STORAGE"),
        ({"TIDEGATE_STORAGE": "AccountName=contoso;AccountKey=a"}, "TIDEGATE_STORAGE"),
        ({"TIDEGATE_STORAGE": "AccountName=contoso;SharedAccessSignature=sv=2026&sig=x"}, "TIDEGATE_STORAGE"),
        ({"TIDEGATE_STORAGE": "AccountName=contoso;AccountKey=a2V5;AccountName=fabrikam"}, "TIDEGATE_STORAGE"),
        ({"TIDEGATE_STORAGE": "x;AccountName=contoso;AccountKey=a2V5"}, "TIDEGATE_STORAGE"),
        ({"TIDEGATE_STORAGE": "AccountName=contoso;AccountKey=a2V5;TableEndpoint=http://[::1"}, "TIDEGATE_STORAGE"),
        ({"TIDEGATE_STORAGE": "AccountName=contoso;AccountKey=a2V5;DefaultEndpointsProtocol=ftp"}, "TIDEGATE_STORAGE"),
        ({"TIDEGATE_STORAGE": "", "TIDEGATE_STORAGE__accountName": "Not-A-Name"}, "TIDEGATE_STORAGE__accountName"),
        ({"TIDEGATE_STORAGE__accountName": "contoso"}, "TIDEGATE_STORAGE and TIDEGATE_STORAGE__accountName"),
        ({"DATABRICKS_HOST": "adb-1.azuredatabricks.net"}, "DATABRICKS_HOST"),
        ({"DATABRICKS_HOST": "http://adb-1.azuredatabricks.net"}, "DATABRICKS_HOST"),
        ({"DATABRICKS_HOST": "https://token:dapi@adb-1.azuredatabricks.net"}, "DATABRICKS_HOST"),
        ({"DATABRICKS_HOST": "https://[adb"}, "DATABRICKS_HOST"),
        ({"EVENTGRID_TOPIC_ENDPOINT": "https://t/api/events?sig=x"}, "EVENTGRID_TOPIC_ENDPOINT"),
        ({"AZURE_CLIENT_ID": "me"}, "AZURE_CLIENT_ID"),
        ({"APPLICATIONINSIGHTS_CONNECTION_STRING": "key"}, "APPLICATIONINSIGHTS_CONNECTION_STRING"),
        ({"TIDEGATE_ARRIVALS_QUEUE": "A"}, "TIDEGATE_ARRIVALS_QUEUE"),
        ({"TIDEGATE_TABLE_PREFIX": "1"}, "TIDEGATE_TABLE_PREFIX"),
        ({"TIDEGATE_ARRIVALS_QUEUE": "a" * 57}, "TIDEGATE_ARRIVALS_QUEUE"),
        ({"TIDEGATE_ARRIVALS_QUEUE": "dispatch"}, "TIDEGATE_*_QUEUE"),
        ({"DATABRICKS_HOST": "https://adb-1.2.azuredatabricks.net/login"}, "DATABRICKS_HOST"),
        ({"DATABRICKS_HOST": "https://adb-1.2.azuredatabricks.net:0"}, "DATABRICKS_HOST"),
        ({"EVENTGRID_TOPIC_ENDPOINT": "https://t:70000/api/events"}, "EVENTGRID_TOPIC_ENDPOINT"),
    ],
)
def test_wrong_setting_is_named(changes: dict[str, str], place: str) -> None:
    assert list(mistakes_of(LOCAL | changes)) == [place]


@given(values=st.fixed_dictionaries({name: st.text(max_size=20) for name in {**LOCAL, **AZURE}}))
def test_no_error_repeats_a_value(values: dict[str, str]) -> None:
    """A mistyped key must not end in a log."""
    marked = {name: f"s3cret{value}" for name, value in values.items()}

    with pytest.raises(InvalidSettingsError) as refused:
        parse_settings(marked, app_dir=APP)

    assert "s3cret" not in str(refused.value)


def test_settings_show_no_secret() -> None:
    settings: Settings = parse_settings(LOCAL, app_dir=APP)

    assert "c2VjcmV0" not in repr(settings)
    assert "'key'" not in repr(settings)


def test_nothing_is_removed_from_the_ledger_unless_a_setting_says_so() -> None:
    assert parse_settings(LOCAL, app_dir=APP).retention is None


@pytest.mark.parametrize(("value", "days"), [("61", 61), ("365", 365), ("36500", 36_500)])
def test_the_retention_is_a_number_of_days(value: str, days: int) -> None:
    assert parse_settings({**LOCAL, "TIDEGATE_RETENTION_DAYS": value}, app_dir=APP).retention == timedelta(days=days)


def test_a_retention_that_is_a_number_is_told() -> None:
    with pytest.raises(InvalidSettingsError, match="TIDEGATE_RETENTION_DAYS: got 30, expected a whole number of days"):
        parse_settings({**LOCAL, "TIDEGATE_RETENTION_DAYS": "30"}, app_dir=APP)


@pytest.mark.parametrize("value", ["60", "0", "-1", "36501", "1e3", "90 days", "٩٠"])
def test_a_retention_below_that_of_databricks_is_refused(value: str) -> None:
    """R73: Databricks forgets its runs after 60 days; the ledger must not be the first to forget."""
    with pytest.raises(InvalidSettingsError, match="TIDEGATE_RETENTION_DAYS"):
        parse_settings({**LOCAL, "TIDEGATE_RETENTION_DAYS": value}, app_dir=APP)

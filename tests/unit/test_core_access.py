"""Holds access over HTTP to what App Service says of the caller, and to nothing that a caller says."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.core.access import Actor, Role, actor_of
from functions.core.errors import MlopsError, NotSignedInError, RoleMissingError

_MAPPED_ROLE = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"


def principal(*claims: tuple[str, str], **changes: object) -> str:
    """Return the header as App Service writes it."""
    document = {
        "auth_typ": "aad",
        "claims": [{"typ": kind, "val": value} for kind, value in claims],
        "name_typ": "name",
        "role_typ": _MAPPED_ROLE,
        **changes,
    }
    return base64.b64encode(json.dumps(document).encode()).decode()


def test_without_the_requirement_the_header_is_not_believed() -> None:
    """Only App Service authentication strips a caller's own header; without it, anyone can write one."""
    forged = principal(("name", "root"), ("roles", Role.OPERATOR))

    actor = actor_of(forged, needed=Role.OPERATOR, are_roles_required=False)

    assert actor == Actor(name="a holder of the function's key")


@pytest.mark.parametrize("claim", ["roles", _MAPPED_ROLE])
@pytest.mark.parametrize(
    ("role", "needed", "may"),
    [
        (Role.READER, Role.READER, True),
        (Role.READER, Role.OPERATOR, False),
        (Role.OPERATOR, Role.READER, True),
        (Role.OPERATOR, Role.OPERATOR, True),
        ("Someone.Else", Role.READER, False),
    ],
)
def test_the_app_role_decides(claim: str, role: str, needed: Role, *, may: bool) -> None:
    header = principal(("name", "Ann"), (claim, role))

    if may:
        assert actor_of(header, needed=needed, are_roles_required=True).name == "Ann"
    else:
        with pytest.raises(RoleMissingError, match=needed.value):
            actor_of(header, needed=needed, are_roles_required=True)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "no base64!",
        base64.b64encode(b"no json").decode(),
        base64.b64encode(b"[]").decode(),
        principal(("roles", Role.OPERATOR), auth_typ="github"),
        principal(claims="all"),
        principal(claims=[{"typ": "roles"}]),
        principal(claims=[{"typ": "roles", "val": ["Tidegate.Operator"]}]),
        "A" * 70_000,
    ],
)
def test_what_app_service_would_not_write_is_nobody(header: str | None) -> None:
    with pytest.raises(NotSignedInError):
        actor_of(header, needed=Role.READER, are_roles_required=True)


@given(header=st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: base64.b64encode(raw).decode()))
def test_no_header_gets_in_by_breaking_the_parser(header: str) -> None:
    with pytest.raises(MlopsError):
        actor_of(header, needed=Role.READER, are_roles_required=True)


def test_an_application_is_named_by_its_id() -> None:
    header = principal(("appid", "11111111-2222"), ("roles", Role.OPERATOR))

    assert actor_of(header, needed=Role.OPERATOR, are_roles_required=True).name == "11111111-2222"


@given(name=st.text(max_size=300))
def test_a_name_in_the_history_is_short_and_plain(name: str) -> None:
    shown = Actor(name=name).name

    assert len(shown) <= 80
    assert shown.isprintable()


def test_a_name_cannot_write_a_second_line() -> None:
    assert str(Actor(name="ann\nended: completed\u202e")) == "ann\\u000aended: completed\\u202e"


@pytest.mark.parametrize("name_type", [None, ""])
def test_without_a_name_claim_of_its_own_the_usual_ones_name_the_caller(name_type: str | None) -> None:
    header = principal(("preferred_username", "ann@example.org"), ("roles", Role.READER), name_typ=name_type)

    assert actor_of(header, needed=Role.READER, are_roles_required=True).name == "ann@example.org"

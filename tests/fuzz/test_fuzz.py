"""Feeds every door with inputs that hypothesis makes: no 500, no crash, no hang, no secret, nothing lost.

`make fuzz` does the same with a million inputs; what it has found is kept here as examples.
"""

import json
import logging
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.fuzz.app import SECRET, SETTINGS, App, captured_log, loaded_app
from tests.fuzz.campaign import BLOCK, cases_of_block
from tests.fuzz.case import Case
from tests.fuzz.examples import TOML, examples_of
from tests.fuzz.judging import Finding, Limits, judge, minimise
from tests.fuzz.mutation import mutate
from tests.fuzz.targets import targets_of
from tests.strategies import paths

_BLOBS = "https://tidegatelocal.blob.core.windows.net"


@pytest.fixture(scope="module")
def app() -> Iterator[App]:
    with loaded_app() as loaded:
        yield loaded


@pytest.fixture(scope="module")
def examples(app: App) -> list[Case]:
    return examples_of(app)


def play(app: App, *cases: Case) -> Finding | None:
    with captured_log() as log:
        return judge(app, log, cases)


def test_every_function_that_is_fed_from_outside_is_fuzzed(app: App, examples: list[Case]) -> None:
    """A function that is added is fuzzed from then on, without anybody thinking of it."""
    assert {name.removeprefix("http:") for name in targets_of(app) if name.startswith("http:")} >= {
        "request_run",
        "list_runs",
        "show_run",
        "list_signals",
        "show_lineage",
        "retry_run",
        "health",
        "health_details",
    }
    assert set(app.queues) >= {
        f"{name}{end}" for name in ("arrivals", "dispatch", "completions") for end in ("", "_poison")
    }
    assert {case.target for case in examples} == set(targets_of(app))


def test_valid_inputs_are_welcome(app: App, examples: list[Case]) -> None:
    assert [finding for case in examples if (finding := play(app, case)) is not None] == []


@settings(max_examples=150)
@given(number=st.integers(0, 2**32), rng=st.randoms(use_true_random=False))
def test_changed_inputs_break_nothing(app: App, examples: list[Case], number: int, rng: Random) -> None:
    """Whatever is changed in what somebody would send."""
    first = examples[number % len(examples)]
    pool = [case for case in examples if case.target == first.target]

    assert play(app, mutate(first, rng, pool)) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(document=json_values | st.binary())
@example(document={"stages": {"\ud800": True}})  # the place of the mistake could not be written into the answer
@example(document={"pipeline": "flight_delay_scoring", "files": [f"{_BLOBS}/input/\ud800"]})  # no UTF-8, so no path
def test_any_document_is_answered(app: App, document: object) -> None:
    """A body, or a message, that nobody had in mind."""
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    cases = [Case.of(f"queue:{name}", {"message": text}) for name in app.queues]
    cases += [Case.of(f"http:{name}", {"body": text, "route.id": b"x"}) for name in app.http]

    assert play(app, *cases) is None


@given(name=paths)
@example(name="100%.parquet")
@example(name="%41/../..")
@example(name="\u202e")
def test_legal_blob_names_are_recorded_as_they_are(app: App, name: str) -> None:
    assert play(app, Case.of("blob_name", {"name": name.encode()})) is None


@given(url=st.text(st.characters(codec=None)) | paths.map(lambda path: f"{_BLOBS}/input/{path}"))
@example(url=f"{_BLOBS}/input/\ud800")
def test_any_url_in_an_event_is_read_or_quarantined(app: App, examples: list[Case], url: str) -> None:
    event = json.loads(next(case for case in examples if case.target == "queue:arrivals").get("message") or b"")
    event["data"]["url"] = url

    assert play(app, Case.of("queue:arrivals", {"message": json.dumps(event).encode()})) is None


@given(key=st.text(st.characters(codec=None), max_size=5))
@example(key="\ud800")  # was taken in, and could not be written down
def test_any_key_in_a_document_is_read_or_quarantined(app: App, examples: list[Case], key: str) -> None:
    """A report's metrics have names that the cluster side chooses."""
    event = json.loads(next(case for case in examples if case.target == "queue:completions").get("message") or b"")
    event["data"]["metrics"] = {key: 0.5}

    assert play(app, Case.of("queue:completions", {"message": json.dumps(event).encode()})) is None


@pytest.mark.parametrize("value", ["9" * 4301, "-" + "9" * 4301, "0x" + "f" * 5000, "1e999", "nan", "1979-02-30"])
def test_any_number_in_pipelines_toml_is_read_or_refused(app: App, value: str) -> None:
    """Python reads no number of more than 4,300 digits, and says so with an error of another class."""
    file = TOML.replace(b"max_in_flight = 10", f"max_in_flight = {value}".encode())

    assert file != TOML
    assert play(app, Case.of("toml", {"file": file})) is None


@given(text=st.text(), key=st.sampled_from(["kind", "cron", "glob", "prefix", "policy", "model", "max_files", "x"]))
def test_any_value_in_pipelines_toml_is_read_or_refused(app: App, text: str, key: str) -> None:
    lines = [
        f"{key} = {json.dumps(text)}" if line.startswith(f"{key} =") else line for line in TOML.decode().splitlines()
    ]

    assert play(app, Case.of("toml", {"file": "\n".join(lines).encode(errors="replace")})) is None


@given(name=st.sampled_from(sorted(SETTINGS)), value=st.text(st.characters(codec="utf-8", exclude_characters="\0")))
@example(name="TIDEGATE_STORAGE", value="AccountName=contoso")  # health was green, and every message failed
@example(name="TIDEGATE_STORAGE", value=f"AccountName=contoso;AccountKey={SECRET};x")
@example(name="TIDEGATE_STORAGE", value=f"AccountName=contoso;AccountKey={SECRET};TableEndpoint=http://[::1")
@example(name="TIDEGATE_STORAGE", value=f"l=p;AccountName=cal;AccountKey={SECRET};&=\n")
def test_any_setting_can_be_used_or_is_refused(app: App, name: str, value: str) -> None:
    """What is accepted makes clients, and what is refused is not repeated."""
    environ = {**SETTINGS, name: value}

    assert play(app, Case.of("settings", {key: text.encode() for key, text in environ.items()})) is None


def test_a_seed_gives_the_same_inputs(examples: list[Case]) -> None:
    first, again, other = (list(cases_of_block(examples, seed, 7)) for seed in (1, 1, 2))

    assert first == again != other
    assert len(first) == BLOCK
    assert [Case.from_text(case.to_text()) for case in first] == first


class DefectiveApp(App):
    """Does what the app does, but for one defect."""

    def __init__(self, app: App, defect: str) -> None:
        super().__init__([])
        self.queues = ["arrivals"]
        self._app, self._defect = app, defect

    def receive(self, name: str, body: bytes) -> None:
        """Misbehave when the message has the word for it."""
        if b"surprise" in body:
            match self._defect:
                case "crashes":
                    raise RuntimeError("unexpected")
                case "loses":
                    return
                case "tells":
                    logging.getLogger("defect").error("the key is %s", SECRET)
                case _:
                    while True:
                        pass
        self._app.receive(name, body)


@pytest.mark.parametrize(
    ("defect", "error"),
    [
        ("crashes", "RuntimeError"),
        ("loses", "neither recorded nor quarantined"),
        ("tells", "a secret is in a log line"),
        ("hangs", "TooSlowError"),
    ],
)
def test_defects_are_found(app: App, defect: str, error: str) -> None:
    """The judge can fail, and names the culprit."""
    harmless = Case.of("queue:arrivals", {"message": b"nothing"})
    culprit = Case.of("queue:arrivals", {"message": b"a surprise"})

    with captured_log() as log:
        limits = Limits(slow_s=0.1, hangs_s=0.2)
        finding = judge(DefectiveApp(app, defect), log, [harmless, culprit, harmless], limits)

    assert finding is not None
    assert error in finding.error
    assert finding.cases[-1] == culprit


def test_findings_are_made_small(app: App) -> None:
    """Of all that came before, and of all that is in the input, what is needed is left."""
    defective = DefectiveApp(app, "crashes")
    harmless = Case.of("queue:arrivals", {"message": b"nothing"})
    culprit = Case.of("queue:arrivals", {"message": b"x" * 300 + b"surprise" + b"y" * 300, "other": b"z"})

    with captured_log() as log:
        finding = judge(defective, log, [harmless, harmless, culprit])
        assert finding is not None
        small = minimise(defective, log, finding)

    assert small.cases == (Case.of("queue:arrivals", {"message": b"surprise"}),)

"""Lists why an event starts nothing, or not yet: each reason is a code for machines and a sentence for people."""

from enum import StrEnum
from typing import Self

__all__ = ["HoldReason", "SkipReason"]


class _Reason(StrEnum):
    """A code that knows its sentence."""

    sentence: str

    def __new__(cls, code: str, sentence: str) -> Self:
        """Return the member whose value is `code`, and which a person reads as `sentence`."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.sentence = sentence
        return member


class SkipReason(_Reason):
    """Why nothing is started."""

    FOREIGN_ACCOUNT = "foreign_account", "the blob is in a storage account that this environment does not watch"
    CONTROL_CONTAINER = "control_container", "the container holds Tidegate's own data, which starts nothing"
    OWN_OUTPUT = "own_output", "the blob is an output of a pipeline, and outputs never trigger"
    UNSUPPORTED_EVENT_TYPE = "unsupported_event_type", "only created blobs start runs"
    RENAMED_AND_GONE = "renamed_and_gone", "what was renamed was not there any more when its event came"
    UNCOMMITTED_API = "uncommitted_api", "the call that caused the event does not commit a file's content"
    ZERO_BYTES = "zero_bytes", "the blob is empty"
    UNREADABLE_NAME = "unreadable_name", "Spark would read another path: a segment of the name is empty, '.' or '..'"
    SEAL = "seal", "the blob says which files beside it are complete, and is none of them"
    LATE_FILE = "late_file", "its consignment was frozen without it, and the pipeline quarantines what comes late"
    UNKNOWN_CONTAINER = "unknown_container", "no pipeline reads this container"
    TRAINING_DATA = "training_data", "the blob is training data, which the next training run reads"
    NO_ROUTE = "no_route", "no route matches the blob"
    OLDER_VERSION = "older_version", "a newer version of the same path has arrived"
    UNKNOWN_PIPELINE = "unknown_pipeline", "no pipeline has this name"
    UNKNOWN_SCHEDULE = "unknown_schedule", "the pipeline has no schedule of this name"
    MISSED_SLOT = "missed_slot", "the slot was missed, and the schedule's policy is to skip missed slots"
    ILLEGAL_PLAN = "illegal_plan", "the stages cannot work"
    NO_MODEL_YET = "no_model_yet", "no model version has the pipeline's alias yet; train one first"
    NO_TRAINING_DATA = "no_training_data", "there is no training data"
    NO_INPUT = "no_input", "there is no file to score"
    FILES_OF_FOREIGN_PLACE = "files_of_foreign_place", "a file is outside what the pipeline reads"
    FOREIGN_ENVIRONMENT = "foreign_environment", "the signal is about another environment"
    NO_SIGNAL_RULE = "no_signal_rule", "no pipeline listens to such a signal about this model"
    BELOW_THRESHOLD = "below_threshold", "the signal does not reach the threshold of any pipeline that listens to it"
    COOLDOWN = "cooldown", "the signal has started a run a short while ago"
    DROPPED_WHILE_ACTIVE = "dropped_while_active", "a run is active, and the pipeline drops what comes meanwhile"


class HoldReason(_Reason):
    """Why an accepted event waits."""

    WINDOW_OPEN = "window_open", "the batching window is open"
    NOTHING_HELD = "nothing_held", "no arrival waits for this pipeline"
    NOT_READY = "not_ready", "its consignment is not complete yet"
    NOT_LISTED = "not_listed", "the manifest of its consignment does not list it"
    BAD_MANIFEST = "bad_manifest", "the manifest of its consignment cannot be read"
    TOO_MANY_FILES = "too_many_files", "its consignment has more files than one run may read"
    NO_MODEL_YET = "no_model_yet", "no model version has the pipeline's alias yet"
    AT_CAPACITY = "at_capacity", "as many runs are active as the pipeline allows"
    PAUSED = "paused", "a person has paused the pipeline"
    NO_SEAT = "no_seat", "as many runs are in flight as all pipelines together may have"
    START_RATE = "start_rate", "runs start as fast as the workspace takes them; the next one follows in a moment"
    BUDGET_SPENT = "budget_spent", "the pipeline has begun as many runs today (UTC) as it may"
    TOTAL_BUDGET_SPENT = "total_budget_spent", "all pipelines together have begun as many runs today (UTC) as they may"

"""What a build says while it runs: one JSON document a line. Imports no TensorFlow."""

from typing import Any

import msgspec


class Stage(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    name: str
    detail: str = ""


class StepBegan(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """``subject``: what is made, a variant or ``float`` or a teacher; ``step``: ``training`` or a pass, the
    ``number``-th of ``steps``."""

    subject: str
    step: str
    number: int = 1
    steps: int = 1


class StepEnded(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """``cached``: it was there from an earlier build. ``score``: on the validation split, top-1 or minus the
    squared error, of the network in floats; none where there is nothing to judge by."""

    subject: str
    step: str
    number: int = 1
    steps: int = 1
    cached: bool = False
    seconds: float = 0.0
    score: float | None = None


class Epoch(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """``accuracy`` is on the validation split; ``error`` in its stead, the mean squared error, where there
    are no classes. ``subject`` and ``step``: as of `StepBegan`."""

    epoch: int
    epochs: int
    loss: float
    accuracy: float | None = None
    error: float | None = None
    seconds_left: float
    subject: str = ""
    step: str = "training"


class BackedOff(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A variant did not hold a gate, and is made again with a pass weakened."""

    subject: str
    step: str
    why: str
    change: str


class VariantBuilt(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """``accuracy`` is on the test split; ``size_bytes``: the model file."""

    name: str
    size_bytes: int
    accuracy: float | None
    validation_accuracy: float | None
    latency_p50_us: float | None


class Warned(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Something that whoever builds should know, and that does not end the build."""

    message: str


class Registered(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    model: str
    version: str
    created: bool


class Tried(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A trial of a search. ``passes``: in one line; ``accuracy``: on the validation split; ``cost``: bytes,
    or microseconds, as ``against`` says. Both are none, and ``why`` says so, when it gave no result."""

    trial: int
    passes: str
    against: str
    accuracy: float | None = None
    cost: float | None = None
    why: str = ""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A trial that no other one beats in both accuracy and cost. ``passes``: as a recipe says them."""

    name: str
    accuracy: float
    cost: float
    passes: tuple[dict[str, Any], ...]


class Searched(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What a search knows at its end. ``front``: the cheapest first; ``trials``: those that have ended, in
    all runs of this search, ``failed`` of them without a result; ``file``: where they are kept;
    ``variants``: the front as YAML, for a recipe."""

    model: str
    target: str
    against: str
    trials: int
    failed: int
    front: tuple[Found, ...]
    variants: str
    file: str


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    code: str
    message: str
    hint: str = ""


BuildEvent = (
    Stage
    | StepBegan
    | StepEnded
    | Epoch
    | BackedOff
    | VariantBuilt
    | Warned
    | Registered
    | Tried
    | Searched
    | Failed
)


def parse_event(line: bytes) -> BuildEvent:
    event: BuildEvent = msgspec.json.decode(line, type=BuildEvent)
    return event

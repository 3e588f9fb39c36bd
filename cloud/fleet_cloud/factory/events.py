"""What a build says while it runs: one JSON document a line. Imports no TensorFlow."""

import msgspec


class Stage(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    name: str
    detail: str = ""


class Epoch(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """``accuracy`` is on the validation split; ``error`` in its stead, the mean squared error, where there
    are no classes."""

    epoch: int
    epochs: int
    loss: float
    accuracy: float | None = None
    error: float | None = None
    seconds_left: float


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


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    code: str
    message: str
    hint: str = ""


BuildEvent = Stage | Epoch | VariantBuilt | Warned | Registered | Failed


def parse_event(line: bytes) -> BuildEvent:
    event: BuildEvent = msgspec.json.decode(line, type=BuildEvent)
    return event

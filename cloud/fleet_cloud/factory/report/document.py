"""``report.json``: what a build found out and how it went. Imports only msgspec.

It is written once, with the version that it belongs to, and read by later versions of Fleet: within schema 1
only optional fields are added, and unknown ones are ignored.
"""

from typing import Any, Final, TypeVar

import msgspec

from fleet_cloud.errors import Invalid
from fleet_cloud.factory.evaluation.results import Evaluation, Weights

SCHEMA: Final = 1

T = TypeVar("T")


class EpochReport(msgspec.Struct, frozen=True, kw_only=True):
    """``score``: on the validation split, more is better: top-1, or minus the mean squared error."""

    epoch: int
    loss: float
    score: float | None = None


class SensitivityReport(msgspec.Struct, frozen=True, kw_only=True):
    """``noise``: the mean squared change of the outputs when this layer alone is changed, as a share of
    their variance."""

    layer: str
    noise: float


class ChangeReport(msgspec.Struct, frozen=True, kw_only=True):
    """How much there was of something, and how much is left."""

    before: int
    after: int


class WidthReport(ChangeReport, frozen=True, kw_only=True):
    """Channels that ``layers`` make together."""

    layers: tuple[str, ...]


class PassReport(msgspec.Struct, frozen=True, kw_only=True):
    """One step. ``settings``: as the recipe asked, or weaker; ``facts``: what came out, as the pass tells it;
    ``validation_score``: after it. ``cached``: its result was there from an earlier build, which took
    ``seconds``."""

    name: str
    settings: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    validation_score: float | None = None
    seconds: float | None = None
    cached: bool = False

    @property
    def history(self) -> tuple[EpochReport, ...]:
        """The epochs of its training, none if it did not train; those of several rounds are numbered on.
        What does not read as one is left out."""
        return tuple(found for number, one in enumerate(_list_epochs(self.facts), 1)
                     if (found := _read_epoch(one, number)) is not None)  # fmt: skip

    @property
    def sensitivity(self) -> tuple[SensitivityReport, ...]:
        """Layers by how much they suffer, none where that was not measured."""
        return _read(self.facts.get("sensitivity"), tuple[SensitivityReport, ...]) or ()

    @property
    def changes(self) -> dict[str, ChangeReport]:
        """What it made less of: operations, parameters, filters or neurons."""
        read = {name: _read(value, ChangeReport) for name, value in self.facts.items()}
        return {name: change for name, change in read.items() if change is not None}

    @property
    def widths(self) -> dict[str, WidthReport]:
        """By the first layer, or all, of those that share a width."""
        return _read(self.facts.get("widths"), dict[str, WidthReport]) or {}

    @property
    def left_alone(self) -> dict[str, str]:
        """By layer, why it was not made smaller."""
        return _read(self.facts.get("left_alone"), dict[str, str]) or {}

    @property
    def settled(self) -> dict[str, Any]:
        """What it settled on: its facts without documents and lists of them."""
        return {name: value for name, value in self.facts.items() if _is_plain(value)}


class GateReport(msgspec.Struct, frozen=True, kw_only=True):
    """A gate of the recipe, judged on the validation split. In the unit that its name ends with."""

    name: str
    bound: float
    found: float | None
    held: bool


class TryReport(msgspec.Struct, frozen=True, kw_only=True):
    """Passes that did not hold a gate, in one line, and why not: weaker ones took their place."""

    passes: str
    failed: tuple[str, ...]


class VariantReport(msgspec.Struct, frozen=True, kw_only=True):
    """``evaluation``: on the test split, which no decision has seen. ``target``: the runtime that it is made
    for."""

    evaluation: Evaluation
    target: str = ""
    passes: tuple[PassReport, ...] = ()
    gates: tuple[GateReport, ...] = ()
    tried: tuple[TryReport, ...] = ()

    @property
    def name(self) -> str:
        return self.evaluation.variant


class DataReport(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of samples in each split; ``sha256`` names all of them."""

    kind: str
    sha256: str
    train: int
    validation: int
    test: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """``training``: of the float network; ``float_weights``: of its file, before any pass. ``lineage``: what
    the version was made of, as the registry keeps it. ``task``: empty where nobody said."""

    model: str
    variants: tuple[VariantReport, ...]
    schema: int = SCHEMA
    task: str = "classification"
    labels: tuple[str, ...] = ()
    data: DataReport | None = None
    training: PassReport | None = None
    float_weights: Weights | None = None
    lineage: dict[str, Any] = {}

    def find(self, variant: str) -> VariantReport | None:
        return next((one for one in self.variants if one.name == variant), None)


def write_report(report: Report) -> bytes:
    return msgspec.json.encode(report)


def read_report(content: bytes) -> Report:
    """Raises `Invalid` (``report.invalid``) for what is no report, or one of a later schema."""
    try:
        report = msgspec.json.decode(content, type=Report)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise Invalid(
            f"this is no report of a build: {exc}",
            hint="another tool may have written it",
            code="report.invalid",
        ) from exc
    if report.schema > SCHEMA:
        raise Invalid(
            f"the report has schema {report.schema}, this version reads {SCHEMA}",
            hint="update this side",
            code="report.invalid",
        )
    return report


def _read_epoch(one: Any, number: int) -> EpochReport | None:
    """Return an epoch; training itself calls its score ``validation_accuracy``."""
    if isinstance(one, dict) and isinstance(loss := one.get("loss"), int | float):
        score = one.get("score", one.get("validation_accuracy"))
        return EpochReport(epoch=number, loss=loss, score=score if isinstance(score, int | float) else None)
    return None


def _list_epochs(facts: dict[str, Any]) -> list[Any]:
    rounds = [one for one in _list(facts, "rounds") if isinstance(one, dict)]
    return _list(facts, "history") or [epoch for one in rounds for epoch in _list(one, "history")]


def _read(value: Any, kind: type[T]) -> T | None:
    """Return a fact as what it should be; none if it is not."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return None


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and not any(isinstance(one, dict | list) for one in value)
    return not isinstance(value, dict)


def _list(facts: dict[str, Any], name: str) -> list[Any]:
    found = facts.get(name)
    return found if isinstance(found, list) else []

"""What can be said of somebody else's model without training: of its file, and by running it."""

import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from fleet_cloud.factory.evaluation.judging import describe_file, judge_alone
from fleet_cloud.factory.evaluation.running import Inputs
from fleet_cloud.factory.given_samples import load_questions
from fleet_cloud.factory.imported import ImportRequest
from fleet_cloud.factory.inspect import inspect_file
from fleet_cloud.factory.lite import LiteModel
from fleet_cloud.factory.package import Package, allowed_peers
from fleet_cloud.factory.report.document import Report, VariantReport
from fleet_shared.manifest import Metrics, Role


def appraise(
    model: str, made: Package, request: ImportRequest, lineage: Mapping[str, Any]
) -> tuple[Package, Report]:
    """Return the package with what was measured in its contract, and the report of it.

    Accuracy is known only if the samples of the request say what they are; whether the model has learned
    from them, only their giver knows.
    """
    content = made.blobs[Role.MODEL]
    labels = tuple(made.blobs.get(Role.LABELS, b"").decode().split("\n")[:-1])
    facts = inspect_file(content)
    questions = load_questions(request.samples, facts, request.preprocessing, labels)
    peers = allowed_peers(facts, request.peers)
    found = judge_alone(describe_file(made.name, content), _read_inputs(made), questions, peers)
    metrics = Metrics(
        accuracy=found.accuracy,
        latency_p50_us=None if found.latency is None else found.latency.p50_us,
        test_samples=None if found.samples is None else found.samples.count,
    )
    said = ("classification" if labels else "") if questions is None else questions.task
    report = Report(
        model=model,
        task=said,
        labels=labels,
        variants=(VariantReport(evaluation=found),),
        lineage=dict(lineage),
    )
    return replace(made, contract=msgspec.structs.replace(made.contract, metrics=metrics)), report


def _read_inputs(made: Package) -> list[Inputs]:
    """Return the inputs of the golden vectors, which every model has, as LiteRT takes them."""
    details = LiteModel(made.blobs[Role.MODEL]).inputs
    with np.load(io.BytesIO(made.blobs[Role.GOLDEN])) as archive:
        columns = [archive[f"input_{index}"] for index in range(len(details))]
    return [
        [one.reshape(detail["shape"]) for one, detail in zip(sample, details, strict=True)]
        for sample in zip(*columns, strict=True)
    ]

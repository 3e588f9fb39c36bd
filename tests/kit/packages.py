"""Versions to register without training: the tiny model as a draft with its blobs."""

import io
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fleet_cloud.factory.package import Package, package
from fleet_shared.manifest import Metrics, Preprocessing, Role
from tests.kit.tiny_model import make_tiny_model

if TYPE_CHECKING:  # the client needs what the agent's own environments do not have
    from fleet_cloud.client import Client, VersionView

LABELS = ("a", "b", "c", "d")


def make_package(*, padding_bytes: int = 0, seed: int = 1) -> Package:
    random = np.random.default_rng(0)
    return package(
        "fp32",
        make_tiny_model(padding_bytes=padding_bytes, seed=seed),
        labels=LABELS,
        preprocessing=Preprocessing(),
        metrics=Metrics(accuracy=0.9),
        candidates=[[random.normal(size=(1, 8)).astype(np.float32)] for _ in range(32)],
    )


def register(client: "Client", name: str, *packages: Package) -> "VersionView":
    for one in packages:
        for digest, content in one.contents.items():
            client.put_blob(digest, content)
    variants = [{"name": p.name, "contract": p.contract, "blobs": p.refs} for p in packages]
    return client.create_version(name, {"variants": variants})


def spoil(package: Package) -> Package:
    """Return the package with golden outputs of another model: digests and signatures are all right."""
    with np.load(io.BytesIO(package.blobs[Role.GOLDEN])) as archive:
        arrays = dict(archive)
    arrays["output_0"] = np.roll(arrays["output_0"], 1, axis=-1)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return replace(package, blobs={**package.blobs, Role.GOLDEN: buffer.getvalue()})

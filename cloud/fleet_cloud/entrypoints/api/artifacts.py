"""Artifacts of versions, for people: listed, and streamed out."""

from typing import Annotated

from fastapi import APIRouter, Request, Response

from fleet_cloud.client.views import ArtifactView
from fleet_cloud.domain.artifacts import find_reader
from fleet_cloud.domain.model import ModelVersion
from fleet_cloud.domain.people import Actor, Role
from fleet_cloud.entrypoints.api.blobs import serve_blob
from fleet_cloud.entrypoints.api.bodies import answer
from fleet_cloud.entrypoints.api.roles import needs
from fleet_cloud.services.artifacts import find_artifact
from fleet_cloud.services.blobs import Blobs
from fleet_cloud.services.models import Registry
from fleet_shared.names import parse_model_name
from fleet_shared.version import ModelRef, Version


def artifact_routes(registry: Registry, blobs: Blobs) -> APIRouter:
    router = APIRouter(prefix="/models/{model}/versions/{version}/artifacts", tags=["models"])

    def get(model: str, version: str) -> ModelVersion:
        return registry.get(ModelRef(parse_model_name(model), Version.parse(version)))

    @router.get("", dependencies=[needs(Role.VIEWER)])
    def artifacts(model: str, version: str) -> Response:
        """By name. Their digests are not told: with one, every viewer could get the blob."""
        found = sorted(get(model, version).artifacts.items())
        return answer(
            [
                ArtifactView(name=name, size_bytes=blob.size_bytes, role=find_reader(name).value)
                for name, blob in found
            ]
        )

    @router.get("/{name:path}")
    def artifact(
        by: Annotated[Actor, needs(Role.VIEWER)], model: str, version: str, name: str, request: Request
    ) -> Response:
        """A viewer gets the reports, an operator everything. It is a file to keep, never a page of this
        address: whoever may register a version wrote it."""
        response = serve_blob(blobs, find_artifact(get(model, version), name, by).sha256, request)
        response.headers["Content-Disposition"] = "attachment"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    return router

"""Versions of models, and the encodings of their blobs."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, insert, select

from fleet_cloud.adapters.db import tables
from fleet_cloud.adapters.db.rows import upsert, write_json
from fleet_cloud.domain.model import ModelVersion, Variant
from fleet_shared.codec import Encoding
from fleet_shared.manifest import BlobRef, Manifest, digest_of_manifest
from fleet_shared.messages.desired import EncodedBlob
from fleet_shared.names import Digest, ModelName
from fleet_shared.version import Version


class ModelTable:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._t = tables.model_version

    def get(self, model: ModelName, version: Version) -> ModelVersion | None:
        t = self._t
        return self._one(
            t.c.model == model,
            t.c.major == version.major,
            t.c.minor == version.minor,
            t.c.patch == version.patch,
        )

    def find_content(self, model: ModelName, content: Digest) -> ModelVersion | None:
        return self._one(self._t.c.model == model, self._t.c.content == content)

    def newest(self, model: ModelName) -> ModelVersion | None:
        return next(iter(self.versions(model)), None)

    def versions(self, model: ModelName | None) -> Sequence[ModelVersion]:
        t = self._t
        query = select(t).order_by(t.c.model, t.c.major.desc(), t.c.minor.desc(), t.c.patch.desc())
        if model is not None:
            query = query.where(t.c.model == model)
        return [_version(row) for row in self._connection.execute(query)]

    def add(self, version: ModelVersion) -> None:
        number = version.version
        self._connection.execute(
            insert(self._t).values(
                model=version.model,
                major=number.major,
                minor=number.minor,
                patch=number.patch,
                content=version.content,
                created_ms=version.created_ms,
                manifests=write_json([variant.manifest for variant in version.variants]),
                lineage=write_json(version.lineage),
                artifacts=write_json(version.artifacts),
            )
        )

    def encodings(self, blob: Digest) -> Sequence[EncodedBlob]:
        t = tables.encoding
        query = select(t).where(t.c.blob == blob).order_by(t.c.encoding)
        return [_encoding(row) for row in self._connection.execute(query)]

    def add_encoding(self, encoding: EncodedBlob) -> None:
        values = {
            "sha256": encoding.sha256,
            "encoded_bytes": encoding.encoded_bytes,
            "size_bytes": encoding.size_bytes,
        }
        key = {"blob": encoding.blob, "encoding": encoding.encoding.value}
        upsert(self._connection, tables.encoding, key, values)

    def _one(self, *where: Any) -> ModelVersion | None:
        row = self._connection.execute(select(self._t).where(*where)).one_or_none()
        return None if row is None else _version(row)


def _version(row: Row[Any]) -> ModelVersion:
    manifests = msgspec.json.decode(row.manifests, type=tuple[Manifest, ...])
    return ModelVersion(
        model=ModelName(row.model),
        version=Version(row.major, row.minor, row.patch),
        content=Digest(row.content),
        created_ms=row.created_ms,
        variants=tuple(Variant(digest_of_manifest(manifest), manifest) for manifest in manifests),
        lineage=msgspec.json.decode(row.lineage),
        artifacts=msgspec.json.decode(row.artifacts, type=dict[str, BlobRef]),
    )


def _encoding(row: Row[Any]) -> EncodedBlob:
    return EncodedBlob(
        blob=row.blob,
        encoding=Encoding(row.encoding),
        sha256=row.sha256,
        encoded_bytes=row.encoded_bytes,
        size_bytes=row.size_bytes,
    )

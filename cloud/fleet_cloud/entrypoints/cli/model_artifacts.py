"""``fleet model report | artifact``: what is kept with a version for people, as files."""

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleet_cloud.entrypoints.cli.connection import get_connection
from fleet_cloud.entrypoints.cli.model_facts import load_version
from fleet_cloud.errors import Invalid
from fleet_shared.version import ModelRef

if TYPE_CHECKING:
    from fleet_cloud.client import Client, VersionView


def report(
    context: typer.Context,
    reference: Annotated[str, typer.Argument(metavar="MODEL[:VERSION]")],
    file: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Where to write it; a name that ends in .json: as JSON."),
    ] = None,
) -> None:
    """Save the report of a version: one page with all measurements and plots."""
    with get_connection(context).open() as client:
        version = load_version(client, ModelRef.parse(reference))
        target = file or Path(f"{version.model}-{version.version}.html")
        save(client, version, "report.json" if target.suffix == ".json" else "report.html", target)
    print(target)


def artifact(
    context: typer.Context,
    reference: Annotated[str, typer.Argument(metavar="MODEL[:VERSION]")],
    name: Annotated[str, typer.Argument(help="For example keras/int8; fleet model show lists them.")],
    file: Annotated[Path, typer.Option("-o", "--output", help="Where to write it.")],
) -> None:
    """Save an artifact of a version, such as a variant's Keras model."""
    with get_connection(context).open() as client:
        save(client, load_version(client, ModelRef.parse(reference)), name, file)
    print(file)


def save(client: "Client", version: "VersionView", name: str, file: Path) -> None:
    """Write an artifact whole or not at all; raise `Invalid` (``file.unwritable``)."""
    if file.exists() and not file.is_file():
        raise Invalid(
            f"{file} is no file: it would be replaced by one",  # /dev/stdout, say
            hint="name a file with -o",
            code="file.unwritable",
        )
    try:
        handle, part = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
        try:
            with os.fdopen(handle, "wb") as target:
                client.save_artifact(version.model, version.version, name, target)
            Path(part).chmod(0o644)
            Path(part).replace(file)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise
    except OSError as exc:
        raise Invalid(
            f"{file} cannot be written: {exc.strerror}",
            hint="choose another place with -o",
            code="file.unwritable",
        ) from exc

"""The build process: ``python -m fleet_cloud.entrypoints.workers.build recipe|import|split``.

It runs the factory and registers the result over the HTTP API like anybody else. Its events go to
standard output, everything else to standard error.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import msgspec

from fleet_cloud.client import Client
from fleet_cloud.entrypoints.workers.build_events import BuildEvent, Failed, Registered, Stage, VariantBuilt
from fleet_shared.errors import FleetError
from fleet_shared.manifest import Preprocessing


def main() -> int:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    options = _parser().parse_args()
    try:
        options.run(options)
    except FleetError as exc:
        say(Failed(code=exc.code, message=exc.message, hint=exc.hint))
        return 1
    except ImportError as exc:
        say(
            Failed(
                code="build.factory.missing",
                message=f"the factory cannot be loaded: {exc}",
                hint="install it: pip install 'fleet-cloud[factory]'",
            )
        )
        return 1
    return 0


def say(event: BuildEvent) -> None:
    sys.stdout.write(msgspec.json.encode(event).decode() + "\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fleet_cloud.entrypoints.workers.build")
    commands = parser.add_subparsers(required=True)
    recipe = commands.add_parser("recipe")
    recipe.add_argument("file", type=Path)
    recipe.set_defaults(run=_build_recipe)
    imported = commands.add_parser("import")
    imported.add_argument("file", type=Path)
    imported.add_argument("--name", required=True)
    for option in ("--labels", "--samples", "--golden"):
        imported.add_argument(option, type=Path)
    imported.add_argument("--scale", type=float, default=1.0)
    imported.add_argument("--offset", type=float, default=0.0)
    imported.add_argument("--colour", choices=("rgb", "grey"))
    imported.set_defaults(run=_import_model)
    for command in (recipe, imported):
        command.add_argument("--server", required=True)
        command.add_argument("--version")
    split = commands.add_parser("split")
    split.add_argument("file", type=Path)
    split.add_argument("--out", type=Path, required=True)
    split.set_defaults(run=_write_test_split)
    return parser


def _build_recipe(options: argparse.Namespace) -> None:
    from fleet_cloud.factory.recipe import load_recipe

    recipe = load_recipe(options.file)
    say(Stage(name="starting", detail=f"model {recipe.model}"))
    from fleet_cloud.factory.build import build

    built = build(recipe, say)
    _register(options, recipe.model, built.packages, built.lineage)


def _import_model(options: argparse.Namespace) -> None:
    from fleet_cloud.factory.imported import ImportRequest, import_model

    preprocessing = Preprocessing(colour=options.colour, scale=options.scale, offset=options.offset)
    package = import_model(
        ImportRequest(options.file, options.labels, options.samples, options.golden, preprocessing)
    )
    say(
        VariantBuilt(
            name=package.name,
            size_bytes=options.file.stat().st_size,
            accuracy=None,
            validation_accuracy=None,
            latency_p50_us=None,
        )
    )
    _register(options, options.name, [package], {"imported": options.file.name})


def _write_test_split(options: argparse.Namespace) -> None:
    """Write the held-out samples of a recipe as a source for devices."""
    from fleet_cloud.factory.data import load_splits, write_source
    from fleet_cloud.factory.recipe import load_recipe

    recipe = load_recipe(options.file)
    splits = load_splits(recipe.dataset, recipe.training.seed)
    write_source(splits.test, options.out)


def _register(options: argparse.Namespace, model: str, packages: list[Any], lineage: dict[str, Any]) -> None:
    with Client(options.server, os.environ.get("FLEET_TOKEN")) as client:
        for package in packages:
            for digest, content in package.contents.items():
                client.put_blob(digest, content)
        draft = {
            "version": options.version,
            "variants": [
                {"name": package.name, "contract": package.contract, "blobs": package.refs}
                for package in packages
            ],
            "lineage": lineage,
        }
        version = client.create_version(model, draft)
    say(Registered(model=version.model, version=version.version, created=version.created))


if __name__ == "__main__":
    sys.exit(main())

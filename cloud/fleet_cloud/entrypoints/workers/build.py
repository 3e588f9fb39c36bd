"""The build process: ``python -m fleet_cloud.entrypoints.workers.build recipe|import|search``.

It runs the factory and registers the result over the HTTP API like anybody else; a search registers nothing.
Its events go to standard output, everything else to standard error.
"""

import argparse
import contextlib
import errno
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from fleet_cloud.client import Client, VersionView
from fleet_cloud.entrypoints.registration import Draft, Release, check_controller, register, register_or_keep
from fleet_cloud.factory.events import BuildEvent, Failed, Registered, Stage, VariantBuilt, Warned
from fleet_shared.errors import FleetError
from fleet_shared.manifest import COLOURS, Fit, ImageRules, Layout, Preprocessing, Resize, Role
from fleet_shared.names import parse_model_name
from fleet_shared.version import Version

if TYPE_CHECKING:
    from fleet_cloud.factory.keeping import Keeper
    from fleet_cloud.factory.package import Package
    from fleet_cloud.factory.recipe import Recipe


Say = Callable[[BuildEvent], None]


def main(arguments: Sequence[str] | None = None) -> int:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    options = _parser().parse_args(arguments)
    with _reserve_output() as say:
        try:
            options.run(options, say)
        except Exception as exc:  # noqa: BLE001  the last event tells what nobody thought of, too
            say(describe_failure(exc))
            return 1
    return 0


def describe_failure(exc: Exception) -> Failed:
    """Return the last event of a build that failed."""
    match exc:
        case FleetError():
            return Failed(code=exc.code, message=exc.message, hint=exc.hint)
        case ImportError():
            return Failed(
                code="build.factory.missing",
                message=f"the factory cannot be loaded: {exc}",
                hint="install it: pip install 'fleet-cloud[factory]'",
            )
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return _tell_of_disk(exc.filename or tempfile.gettempdir())
        case _ if _is_exhausted(exc) and os.strerror(errno.ENOSPC) in str(exc):
            return _tell_of_disk(tempfile.gettempdir())
        case _ if _is_exhausted(exc) or isinstance(exc, MemoryError):
            return Failed(
                code="build.memory",
                message="there is not enough memory",
                hint="a smaller batch_size or a smaller network helps, or a machine with more",
            )
        case _:
            traceback.print_exception(exc)
            return Failed(code="build.failed", message=f"the build failed: {type(exc).__name__}: {exc}")


def _is_exhausted(exc: Exception) -> bool:
    """Return whether TensorFlow lacked memory or, as its text says, disk; by name: it may not be loaded."""
    return any(kind.__name__ == "ResourceExhaustedError" for kind in type(exc).__mro__)


def _tell_of_disk(place: str) -> Failed:
    return Failed(
        code="build.disk",
        message=f"there is no room left on the disk of {place}",
        hint="free some, or set TMPDIR and FLEET_CACHE to folders on another disk",
    )


@contextlib.contextmanager
def _reserve_output() -> Iterator[Say]:
    """Yield what writes events to standard output; whatever else is written there by Python or by
    native code goes to standard error."""
    sys.stdout.flush()
    events = os.dup(1)
    os.dup2(2, 1)

    def say(event: BuildEvent) -> None:
        line = msgspec.json.encode(event) + b"\n"
        while line:
            line = line[os.write(events, line) :]

    try:
        yield say
    finally:
        sys.stdout.flush()
        os.dup2(events, 1)
        os.close(events)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fleet_cloud.entrypoints.workers.build")
    commands = parser.add_subparsers(required=True)
    recipe = commands.add_parser("recipe")
    recipe.add_argument("file", type=Path)
    recipe.add_argument("--held-out", type=Path)
    recipe.add_argument("--no-cache", action="store_true")
    recipe.add_argument("--allow-code", action="store_true")
    recipe.set_defaults(run=_build_recipe)
    imported = commands.add_parser("import")
    imported.add_argument("file", type=Path)
    imported.add_argument("--name", required=True)
    for option in ("--labels", "--samples", "--golden"):
        imported.add_argument(option, type=Path)
    imported.add_argument("--scale", type=float, default=1.0)
    imported.add_argument("--offset", type=float, default=0.0)
    imported.add_argument("--colour", choices=COLOURS)
    for option in ("--mean", "--std"):
        imported.add_argument(option, type=_read_numbers, default=())
    imported.add_argument("--resize", type=Resize, default=Resize.BICUBIC)
    imported.add_argument("--fit", type=Fit, default=Fit.STRETCH)
    imported.add_argument("--pad", type=int, default=0)
    imported.add_argument("--layout", type=Layout, default=Layout.NHWC)
    imported.set_defaults(run=_import_model)
    search = commands.add_parser("search")
    search.add_argument("file", type=Path)
    search.add_argument("--minutes", type=float)
    search.add_argument("--allow-code", action="store_true")
    search.set_defaults(run=_search_recipe)
    for command in (recipe, imported):
        command.add_argument("--version")
    for command in (recipe, imported, search):
        command.add_argument("--server", required=True)
        command.add_argument("--exact", action="store_true")
    return parser


def _read_numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def _build_recipe(options: argparse.Namespace, say: Say) -> None:
    from fleet_cloud.factory.recipe import load_recipe

    recipe = load_recipe(options.file)
    _check_version(options)
    with _connect(options) as client:
        check_controller(client, recipe.model, options.version)
        fetched = fetch_teachers(client, recipe)
    say(Stage(name="starting", detail=f"model {recipe.model}"))
    if options.held_out is not None:
        write_held_out(recipe, options.held_out)
    keeper = _find_keeper(say, options.no_cache)
    from fleet_cloud.factory.build import build
    from fleet_cloud.factory.peers import find_peers

    built = build(recipe, say, find_peers(), keeper, fetched, allow_code=options.allow_code)
    release = _compose(recipe.model, options.version, built.packages, built.lineage)
    release = release.with_artifacts(built.artifacts)
    with _connect(options) as client:
        _say_registered(register_or_keep(client, release, partial(_say_waiting, say)), say)


def _search_recipe(options: argparse.Namespace, say: Say) -> None:
    from fleet_cloud.factory.recipe import limit_search, load_recipe

    recipe = limit_search(load_recipe(options.file), options.minutes)
    with _connect(options) as client:
        fetched = fetch_teachers(client, recipe)
    say(Stage(name="starting", detail=f"model {recipe.model}"))
    keeper = _find_keeper(say)
    from fleet_cloud.factory.cache import find_search_folder
    from fleet_cloud.factory.candidates import Means
    from fleet_cloud.factory.exploring import explore

    means = Means(keeper, fetched, options.allow_code)
    say(explore(recipe, say, find_search_folder(os.environ), means))


def _import_model(options: argparse.Namespace, say: Say) -> None:
    parse_model_name(options.name)
    _check_version(options)
    from fleet_cloud.factory.appraisal import appraise
    from fleet_cloud.factory.imported import ImportRequest, import_model
    from fleet_cloud.factory.peers import find_peers
    from fleet_cloud.factory.report.artifacts import make_artifacts

    rules = ImageRules(
        resize=options.resize, fit=options.fit, pad=options.pad, layout=options.layout, mean=options.mean,
        std=options.std,
    )  # fmt: skip
    preprocessing = Preprocessing(
        colour=options.colour,
        scale=options.scale,
        offset=options.offset,
        image=msgspec.UNSET if rules == ImageRules() else rules,
    )
    request = ImportRequest(
        options.file, options.labels, options.samples, options.golden, preprocessing, find_peers()
    )
    package = import_model(request)
    with _connect(options) as client:
        client.status()  # away, or the wrong token? an import is soon made again: nothing to keep
    say(Stage(name="measuring", detail="size, latency and memory"))
    lineage = {"imported": options.file.name}
    package, report = appraise(options.name, package, request, lineage)
    say(
        VariantBuilt(
            name=package.name,
            size_bytes=package.refs[Role.MODEL].size_bytes,
            accuracy=package.contract.metrics.accuracy,
            validation_accuracy=None,
            latency_p50_us=package.contract.metrics.latency_p50_us,
        )
    )
    for warning in package.warnings:
        say(Warned(message=warning))
    release = _compose(options.name, options.version, [package], lineage)
    release = release.with_artifacts(make_artifacts(report))
    with _connect(options) as client:
        _say_registered(register(client, release, partial(_say_waiting, say)), say)


def write_held_out(recipe: "Recipe", path: Path) -> None:
    """Write the test split as a source for devices, before hours of training: the path may be wrong."""
    from fleet_cloud.factory.data import load_splits, write_source

    write_source(load_splits(recipe.dataset, recipe.training.seed).test, path)


def fetch_teachers(client: Client, recipe: "Recipe") -> dict[str, bytes]:
    """Return the Keras files of the teachers that are versions, by their name in the recipe. Raises
    `NotFound` for a version that has none."""
    from fleet_cloud.factory.recipe.mistakes import parse_reference

    found = {}
    for name, teacher in recipe.teachers.items():
        if teacher.version is not None:
            model, version = parse_reference(teacher.version)
            artifact = "keras" if teacher.variant is None else f"keras/{teacher.variant}"
            found[name] = client.read_artifact(model, str(version), artifact)
    return found


def _find_keeper(say: Say, no_cache: bool = False) -> "Keeper":
    from fleet_cloud.factory.cache import Cache, find_folder, find_limit
    from fleet_cloud.factory.keeping import CacheKeeper, NoKeeper

    if no_cache:
        return NoKeeper()
    folder, limit_bytes = find_folder(os.environ), find_limit(os.environ)

    def warn(message: str) -> None:
        say(Warned(message=message))

    return CacheKeeper(Cache(folder, warn, limit_bytes), warn)


def _check_version(options: argparse.Namespace) -> None:
    if options.version is not None:
        Version.parse(options.version)


def _connect(options: argparse.Namespace) -> Client:
    token, ca_file = os.environ.get("FLEET_TOKEN"), os.environ.get("FLEET_CA_FILE")
    return Client(options.server, token, ca_file, exact=options.exact)


def _compose(model: str, version: str | None, packages: list["Package"], lineage: dict[str, Any]) -> Release:
    variants = [
        {"name": package.name, "contract": package.contract, "blobs": package.refs} for package in packages
    ]
    contents = {digest: content for package in packages for digest, content in package.contents.items()}
    return Release(Draft(model=model, version=version, variants=variants, lineage=lineage), contents)


def _say_waiting(say: Say, delay_s: float) -> None:
    say(Stage(name="registering", detail=f"the controller is away; next try in {delay_s:g} s"))


def _say_registered(version: VersionView, say: Say) -> None:
    say(Registered(model=version.model, version=version.version, created=version.created))


if __name__ == "__main__":
    sys.exit(main())

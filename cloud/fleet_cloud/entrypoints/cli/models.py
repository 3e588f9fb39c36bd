"""``fleet model list | show | compare | report | artifact | import | register``."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleet_cloud.entrypoints.cli import model_artifacts, model_compare, model_show
from fleet_cloud.entrypoints.cli.connection import get_connection
from fleet_cloud.entrypoints.cli.numbers import (
    check_finite,
    check_numbers,
    check_positive_numbers,
    check_scale,
)
from fleet_cloud.entrypoints.cli.output import (
    Format,
    Output,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from fleet_cloud.client import VariantView


class Colour(StrEnum):
    RGB = "rgb"
    BGR = "bgr"
    GREY = "grey"


class ResizeOption(StrEnum):
    NEAREST = "nearest"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    AREA = "area"


class FitOption(StrEnum):
    STRETCH = "stretch"
    CROP = "crop"
    LETTERBOX = "letterbox"


class LayoutOption(StrEnum):
    NHWC = "nhwc"
    NCHW = "nchw"


app = typer.Typer(help="Models, their versions and variants.", no_args_is_help=True)


@app.command("list")
def list_models(context: typer.Context, output: Output = Format.TABLE) -> None:
    """List models with their newest version."""
    with get_connection(context).open() as client:
        versions = client.models()
    if output is Format.JSON:
        print_json(versions)
        return
    rows = [(v.model, v.version, ", ".join(variant.name for variant in v.variants)) for v in versions]
    print_table(("model", "newest", "variants"), rows, empty="no model yet: fleet build RECIPE")


app.command("show")(model_show.show)
app.command("compare")(model_compare.compare)
app.command("report")(model_artifacts.report)
app.command("artifact")(model_artifacts.artifact)


@app.command("import")
def import_model(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A .tflite file.")],
    name: Annotated[str, typer.Option(help="Name of the model.")],
    version: Annotated[str | None, typer.Option(help="Version number; else the next minor one.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Text file, one label a line.")] = None,
    samples: Annotated[
        Path | None,
        typer.Option(
            help="Inputs for golden vectors: .npz with x, or a folder of images. With y accuracy is measured."
        ),
    ] = None,
    golden: Annotated[Path | None, typer.Option(help="Golden vectors of your own (.npz).")] = None,
    scale: Annotated[
        float | None,
        typer.Option(help="Preprocessing: real = value * scale + offset.", callback=check_scale),
    ] = None,
    offset: Annotated[float | None, typer.Option(help="See --scale.", callback=check_finite)] = None,
    colour: Annotated[Colour | None, typer.Option(help="Colour of image inputs.")] = None,
    mean: Annotated[
        str | None,
        typer.Option(
            help="(real - mean) / std follows: one number, or one a channel: 0.485,0.456,0.406.",
            callback=check_numbers,
        ),
    ] = None,
    std: Annotated[str | None, typer.Option(help="See --mean.", callback=check_positive_numbers)] = None,
    resize: Annotated[
        ResizeOption | None, typer.Option(help="How images get their size; else bicubic.")
    ] = None,
    fit: Annotated[
        FitOption | None, typer.Option(help="Images of another aspect ratio; else they are stretched.")
    ] = None,
    pad: Annotated[int | None, typer.Option(help="Value around letterboxed images.", min=0, max=255)] = None,
    layout: Annotated[LayoutOption | None, typer.Option(help="Layout of image inputs; else nhwc.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Register somebody else's TFLite model, with a report of what can be measured on it."""
    from fleet_cloud.entrypoints.build_process import follow_build
    from fleet_cloud.entrypoints.cli.build import describe_fate, show_build

    options = {
        "name": name, "version": version, "labels": labels, "samples": samples, "golden": golden,
        "scale": scale, "offset": offset, "colour": colour, "mean": mean, "std": std,
        "resize": resize, "fit": fit, "pad": pad, "layout": layout,
    }  # fmt: skip
    given = [f"--{key}={value}" for key, value in options.items() if value is not None]
    registered = show_build(follow_build(["import", str(file), *given], get_connection(context)))
    if output is Format.JSON:
        print_json(registered)
    else:
        print(describe_fate("imported", registered.model, registered.version, registered.created))


@app.command("register")
def register(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Folder that a build left because it could not register.")],
    version: Annotated[str | None, typer.Option(help="Another version number.", metavar="X.Y.Z")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Register a finished build that was kept while the controller was away."""
    from fleet_cloud.entrypoints.cli.build import describe_fate
    from fleet_cloud.entrypoints.registration import load_kept
    from fleet_cloud.entrypoints.registration import register as register_release

    release = load_kept(folder).with_version(version)
    with get_connection(context).open() as client:
        client.status()  # away, or the wrong token? then say so at once
        registered = register_release(client, release, lambda _: None)
    if output is Format.JSON:
        print_json(registered)
    else:
        print(describe_fate("registered", registered.model, registered.version, registered.created))
        print(f"{folder} is not needed any more", file=sys.stderr)


def get_model_bytes(variant: "VariantView") -> int:
    """Return the size of the model file; of all blobs where an older controller says no more."""
    return variant.size_bytes if variant.model_bytes is None else variant.model_bytes

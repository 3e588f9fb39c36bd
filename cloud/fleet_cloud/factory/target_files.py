"""The file of a variant, as the runtime that it is for can run it."""

from dataclasses import replace

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.convert import convert
from fleet_cloud.factory.inspect import inspect_file
from fleet_cloud.factory.lab import Lab
from fleet_cloud.factory.network import Network, Precision
from fleet_cloud.factory.recipe import VariantRecipe
from fleet_cloud.factory.recipe.targets import RUNTIMES, allows_dynamic_per_channel


def make_file(variant: VariantRecipe, network: Network, lab: Lab) -> bytes:
    """Return the file of a network; raise `BuildError` as `convert` and `check_target` do."""
    content = convert(replace(network, precision=fit_precision(variant, network.precision)), lab)
    check_target(variant, content)
    return content


def fit_precision(variant: VariantRecipe, precision: Precision) -> Precision:
    """Return the precision as the target of the variant can have it."""
    if precision.kind == "dynamic-range" and not allows_dynamic_per_channel(variant.target):
        return replace(precision, per_channel_dense=False)
    return precision


def check_target(variant: VariantRecipe, content: bytes) -> None:
    """Raise `BuildError` (``build.target``) for a file that the target cannot run."""
    if RUNTIMES[variant.target] not in inspect_file(content).runtimes:
        raise BuildError(
            f"variant {variant.name!r} is for {variant.target}, which cannot run all of its operators",
            hint="choose another target or other passes; docs/runtimes.md has the table",
            code="build.target",
        )

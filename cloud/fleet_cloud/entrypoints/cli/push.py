"""``fleet push``: take a model to devices, and know what happened on each."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleet_cloud.entrypoints.cli.connection import Connection, get_connection
from fleet_cloud.entrypoints.cli.numbers import DEADLINE_S_MAX, SOAK_S_MAX, check_finite
from fleet_cloud.entrypoints.cli.output import Format, Output, print_json, print_table
from fleet_cloud.entrypoints.cli.policy import HELP, read_policy

if TYPE_CHECKING:
    from fleet_cloud.client import AssignmentView, Client, RolloutView

RECIPE_SUFFIXES = frozenset({".yaml", ".yml"})


def push(
    context: typer.Context,
    target: Annotated[str, typer.Argument(help="MODEL, MODEL:VERSION, or a recipe file to build first.")],
    to: Annotated[
        str, typer.Option("--to", help="Which devices: all, id=NAME, site=berlin,hw in (rpi4,rpi5)")
    ],
    variant: Annotated[
        str | None, typer.Option(help="Send this variant to all, instead of the best for each.")
    ] = None,
    soak: Annotated[
        float,
        typer.Option(
            help="Trial time after the switch, in seconds.", min=0, max=SOAK_S_MAX, callback=check_finite
        ),
    ] = 5.0,
    deadline: Annotated[
        float,
        typer.Option(
            help="A device must be done after so many seconds.",
            min=1,
            max=DEADLINE_S_MAX,
            callback=check_finite,
        ),
    ] = 3600.0,
    policy: Annotated[list[str] | None, typer.Option("--policy", help=HELP)] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the devices.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Push a model to the devices that a selector means; exit 0 only if all of them run it."""
    agreed = read_policy(soak, deadline, policy or [])
    connection = get_connection(context)
    model = _build_first(connection, target, to, variant) if _is_recipe(target) else target
    with connection.open() as client:
        rollout = client.create_rollout(model, to, variant=variant, policy=agreed)
        if not detach:
            rollout = _follow(client, rollout.id)
    _print_result(rollout, output)
    if not detach and rollout.state != "succeeded":
        sys.exit(1)


def _is_recipe(target: str) -> bool:
    return Path(target).suffix in RECIPE_SUFFIXES


def _build_first(connection: Connection, target: str, to: str, variant: str | None) -> str:
    """Build the recipe and return MODEL:VERSION; what would refuse the push is found before that."""
    from fleet_cloud.entrypoints.cli.build import run_build
    from fleet_cloud.factory.recipe import load_recipe

    names = [each.name for each in load_recipe(Path(target)).variants]
    _check_variant(variant, names, target)
    with connection.open() as client:
        _check_devices(client, to)
    registered = run_build(connection, Path(target))
    return f"{registered.model}:{registered.version}"


def _check_variant(variant: str | None, names: list[str], target: str) -> None:
    from fleet_cloud.errors import NotFound

    if variant is not None and variant not in names:
        raise NotFound(
            f"the recipe {target} has no variant {variant!r}",
            hint=f"it has {', '.join(names)}",
            code="model.variant.unknown",
        )


def _check_devices(client: "Client", to: str) -> None:
    from fleet_cloud.errors import Invalid

    if next(iter(client.devices(to)), None) is None:
        raise Invalid(f"no device matches {to!r}", hint="fleet device list shows all", code="rollout.empty")


def _follow(client: "Client", rollout: str) -> "RolloutView":
    """Show the rollout until it ends. Whatever ends the watching does not end the rollout."""
    from fleet_cloud.entrypoints.cli.push_display import follow_rollout

    try:
        return follow_rollout(lambda: client.rollout(rollout))
    except BaseException:
        print(f"the rollout goes on: fleet rollout show {rollout}", file=sys.stderr)
        raise


def _print_result(rollout: "RolloutView", output: Format) -> None:
    if output is Format.JSON:
        print_json(rollout)
        return
    name = f"{rollout.model}:{rollout.version}"
    if rollout.state == "running":
        print(f"{name} to {len(rollout.devices)} devices recorded: fleet rollout show {rollout.id}")
        return
    failed = [a for a in rollout.assignments if a.state != "succeeded"]
    print(f"{name} runs on {len(rollout.assignments) - len(failed)} of {len(rollout.devices)} devices")
    if failed:
        print()
        print_failures(failed)


def print_failures(failed: "list[AssignmentView]") -> None:
    """Print which device failed, where and why, and what to do about it."""
    rows = [
        (a.device, a.state, a.failure.code if a.failure else "", a.failure.message if a.failure else "")
        for a in failed
    ]
    print_table(("device", "state", "code", "why"), rows, empty="")
    hints = {a.failure.code: a.failure.hint for a in failed if a.failure and a.failure.hint}
    for code, hint in hints.items():
        print(f"hint for {code}: {hint}")

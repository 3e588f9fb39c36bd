"""``fleet cache list | prune``: what builds keep, so that nothing is computed twice."""

import os
import time
from typing import TYPE_CHECKING, Annotated

import typer

from fleet_cloud.entrypoints.cli.output import (
    Format,
    Output,
    describe_age,
    describe_bytes,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from fleet_cloud.factory.cache import Kept

app = typer.Typer(help="Results that builds on this machine keep.", no_args_is_help=True)
MEGABYTE = 1_000_000


@app.command("list")
def list_results(output: Output = Format.TABLE) -> None:
    """List kept results, longest unused first."""
    from fleet_cloud.factory.cache import find_folder, list_kept

    folder = find_folder(os.environ)
    kept = list_kept(folder)
    if output is Format.JSON:
        print_json(kept)
        return
    now = time.time()
    rows = [
        (
            one.label or "-",
            describe_bytes(one.size_bytes),
            f"{describe_age(now - one.used)} ago",
            one.key[:12],
        )
        for one in kept
    ]
    print_table(("result", "size", "used", "key"), rows, empty=f"nothing is kept in {folder}")
    if kept:
        print(f"\n{_describe(kept)} in {folder}")


@app.command("prune")
def prune_results(
    keep_mb: Annotated[
        int | None, typer.Option(help="Keep the last used ones, up to so many megabytes.", min=0)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Keep nothing.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Remove the longest unused results above the limit (FLEET_CACHE_MAX_BYTES, else 5 GB)."""
    from fleet_cloud.factory.cache import find_folder, find_limit, prune

    limit_bytes = find_limit(os.environ) if keep_mb is None else keep_mb * MEGABYTE
    removed = prune(find_folder(os.environ), 0 if everything else limit_bytes)
    if output is Format.JSON:
        print_json(removed)
    else:
        print(f"removed {_describe(removed)}")


def _describe(kept: "list[Kept]") -> str:
    return f"{len(kept)} results, {describe_bytes(sum(one.size_bytes for one in kept))}"

"""``fleet context list | show | use | rename | delete``."""

from typing import TYPE_CHECKING, Annotated

import typer

from fleet_cloud.entrypoints.cli.output import Format, Output, print_json, print_table

if TYPE_CHECKING:
    from fleet_cloud.entrypoints.cli.contexts import Context

app = typer.Typer(help="Controllers that you have signed in to.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of the context.")]


@app.command("list")
def list_contexts(output: Output = Format.TABLE) -> None:
    """List contexts; the current one has a star."""
    from fleet_cloud.entrypoints.cli.contexts import open_contexts

    contexts = open_contexts()
    current = contexts.current()
    if output is Format.JSON:
        print_json([_describe(one, current) for one in contexts.all()])
        return
    rows = [("*" if one == current else "", one.name, one.server) for one in contexts.all()]
    print_table(("current", "name", "server"), rows, empty="no context yet: fleet login URL")


@app.command("show")
def show(
    context: typer.Context,
    output: Output = Format.TABLE,
) -> None:
    """Show which controller commands speak to, and as whom."""
    from fleet_cloud.entrypoints.cli.connection import get_connection

    connection = get_connection(context)
    with connection.open() as client:
        who = client.whoami()
    if output is Format.JSON:
        print_json({"server": connection.server, "name": who.name, "role": who.role})
        return
    print(f"{connection.server} as {who.name} ({who.role})")


@app.command("use")
def use(name: Name) -> None:
    """Make a context the current one."""
    from fleet_cloud.entrypoints.cli.contexts import open_contexts

    found = open_contexts().use(name)
    print(f"commands go to {found.server}")


@app.command("rename")
def rename(name: Name, new: Annotated[str, typer.Argument(help="Its new name.")]) -> None:
    """Give a context another name."""
    from fleet_cloud.entrypoints.cli.contexts import open_contexts

    open_contexts().rename(name, new)
    print(f"{name} is {new} now")


@app.command("delete")
def delete(name: Name) -> None:
    """Forget a context and its token, which goes on to count: `fleet token revoke` ends it."""
    from fleet_cloud.entrypoints.cli.contexts import open_contexts

    open_contexts().remove(name)
    print(f"{name} is forgotten")


def _describe(context: "Context", current: "Context | None") -> dict[str, object]:
    return {"name": context.name, "server": context.server, "current": context == current}

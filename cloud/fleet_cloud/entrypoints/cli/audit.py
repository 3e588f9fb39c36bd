"""``fleet audit list | verify``: what was changed, and whether the log of it was.

The hashes are computed here, from the entries as they were fetched: a controller that was tampered with has
no say in it. The end of the log as it was at the last look is remembered, and must still be in it, so that a
log that was cut off or written anew as a whole is noticed; noted elsewhere, it does so on any machine.
"""

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from fleet_cloud.entrypoints.cli.connection import get_connection
from fleet_cloud.entrypoints.cli.output import Format, Output, print_json, print_table

if TYPE_CHECKING:
    from fleet_cloud.client.views import AuditEntryView
    from fleet_cloud.domain.audit import Break, Chained
    from fleet_cloud.entrypoints.cli.audit_heads import Head

app = typer.Typer(help="The log of every change.", no_args_is_help=True)


@app.command("list")
def list_entries(
    context: typer.Context,
    after: Annotated[int, typer.Option(help="Only entries above this number.", min=0)] = 0,
    output: Output = Format.TABLE,
) -> None:
    """List who changed what, from where, and what it was before and after."""
    with get_connection(context).open() as client:
        entries = list(client.audit(after))
    if output is Format.JSON:
        print_json(entries)
        return
    rows = [(e.seq, _time(e.at_ms), e.actor, e.origin, e.action, e.subject, _change(e)) for e in entries]
    columns = ("number", "time", "who", "from", "did", "what", "before and after")
    print_table(columns, rows, empty="nothing was changed")


@app.command("verify")
def verify(
    context: typer.Context,
    head: Annotated[
        str | None, typer.Option(help="The hash that entry --seq had when you last looked.")
    ] = None,
    seq: Annotated[int | None, typer.Option(help="The number of that entry.", min=1)] = None,
    forget: Annotated[
        bool, typer.Option("--forget", help="Do not compare with your last look: the database was restored.")
    ] = False,
) -> None:
    """Recompute the chain of hashes; exit 1 where it is broken, or not what it was at your last look."""
    from fleet_cloud.domain.audit import find_break
    from fleet_cloud.entrypoints.cli.audit_heads import AuditHeads, Head
    from fleet_cloud.entrypoints.cli.secret_store import config_folder

    connection = get_connection(context)
    seen = AuditHeads(config_folder())
    known = [_given_head(head, seq), None if forget else seen.get(connection.server)]
    with connection.open() as client:
        chain = [_chained(entry) for entry in client.audit()]
    broken = _find_break(chain, [one for one in known if one is not None])
    if broken is not None:
        print(f"the audit log is broken at entry {broken.seq}: {broken.why}", file=sys.stderr)
        if find_break(chain) is None:
            print(
                "  hint: whole in itself, but not what was seen before; --forget only where the database was "
                "restored or made anew",
                file=sys.stderr,
            )
        sys.exit(1)
    if not chain:
        print("the audit log is empty")
        return
    last = Head(chain[-1].entry.seq, chain[-1].hash)
    seen.put(connection.server, last)
    print(f"{len(chain)} entries are what was written")
    print(f"to compare elsewhere: fleet audit verify --seq {last.seq} --head {last.hash}")


def _given_head(head: str | None, seq: int | None) -> "Head | None":
    from fleet_cloud.entrypoints.cli.audit_heads import Head
    from fleet_cloud.errors import Invalid

    if (head is None) != (seq is None):
        raise Invalid("--head and --seq belong together", hint="both, or neither", code="audit.head")
    return None if head is None or seq is None else Head(seq, head)


def _find_break(chain: "list[Chained]", known: "list[Head]") -> "Break | None":
    from fleet_cloud.domain.audit import find_break, find_change

    broken = [find_break(chain), *(find_change(chain, one.hash, one.seq) for one in known)]
    return next((one for one in broken if one is not None), None)


def _chained(entry: "AuditEntryView") -> "Chained":
    from fleet_cloud.domain.audit import AuditEntry, Chained
    from fleet_shared.names import Digest

    return Chained(
        AuditEntry(
            entry.seq,
            entry.at_ms,
            entry.actor,
            entry.origin,
            entry.action,
            entry.subject,
            entry.before,
            entry.after,
        ),
        Digest(entry.hash),
    )


def _change(entry: "AuditEntryView") -> str:
    return " -> ".join(part for part in (entry.before, entry.after) if part is not None)


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")

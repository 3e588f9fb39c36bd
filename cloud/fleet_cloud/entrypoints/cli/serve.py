"""``fleet serve``: the controller."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fleet_cloud.entrypoints.serve import Addresses


def serve(
    config: Annotated[Path | None, typer.Option("--config", help="Configuration file (TOML).")] = None,
    data: Annotated[str | None, typer.Option(help="Folder of keys, database and blobs.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the API; 0 takes a free one.")] = None,
    broker: Annotated[
        str | None, typer.Option(help="mqtt://user:password@host:port; else an embedded one.")
    ] = None,
    broker_host: Annotated[str | None, typer.Option(help="Address of the embedded broker.")] = None,
    broker_port: Annotated[
        int | None, typer.Option(help="Port of the embedded broker; 0 takes a free one.")
    ] = None,
    database: Annotated[str | None, typer.Option(help="postgresql://...; else SQLite.")] = None,
    blobs: Annotated[str | None, typer.Option(help="s3://bucket/prefix?endpoint=URL, or a folder.")] = None,
    tls: Annotated[
        str | None, typer.Option(help="own, given, off; auto: HTTPS with its own beyond loopback.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the addresses as one JSON line.")] = False,
) -> None:
    """Run the controller: API, broker gateway, rollouts."""
    from fleet_cloud.entrypoints.serve import serve as run
    from fleet_cloud.settings import load_settings

    flags = {
        "data": data,
        "host": host,
        "port": port,
        "broker": broker,
        "broker_host": broker_host,
        "broker_port": broker_port,
        "database": database,
        "blobs": blobs,
        "tls": tls,
    }
    settings, _ = load_settings(flags, os.environ, config)
    run(settings, ready=_print_json if as_json else _print_addresses)


def _print_json(addresses: "Addresses") -> None:
    import msgspec

    print(msgspec.json.encode(addresses).decode(), flush=True)


def _print_addresses(addresses: "Addresses") -> None:
    print("fleet controller is up", flush=True)
    for name, value in (
        ("API", addresses.api),
        ("broker", addresses.broker),
        ("database", addresses.database),
        ("blobs", addresses.blobs),
        ("admin", _describe_admin(addresses.data)),
        *((("CA", f"sha256:{addresses.ca_sha256}"),) if addresses.ca_sha256 else ()),
    ):
        print(f"  {name:<9} {value}", flush=True)
    print("  next      fleet device token, then on a device: fleet-agent enrol URL --token TOKEN", flush=True)


def _describe_admin(data: str) -> str:
    """Say how commands on this machine prove themselves, and who on another gets a token."""
    from fleet_cloud.local import TOKEN_FILE, default_data

    folder = Path(data).absolute()
    near = "commands on this machine" + ("" if data == default_data() else f" with FLEET_DATA={folder}")
    return f"{near} use {folder / TOKEN_FILE}; for others: fleet token create NAME --role ROLE"

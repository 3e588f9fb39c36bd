"""``fleet trust init | key | sign | rotate | revoke | status``: the release keys and who holds them.

Signing with a key, making one, and beginning a repository work on files, where the keys lie; all else is
asked of the controller.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from fleet_cloud.entrypoints.cli.connection import get_connection
from fleet_cloud.entrypoints.cli.output import Format, Output, print_json, print_table
from fleet_cloud.entrypoints.cli.passphrase import ask_new, ask_secret
from fleet_cloud.entrypoints.cli.trust_ca import rotate_ca
from fleet_cloud.errors import Invalid

if TYPE_CHECKING:
    from fleet_cloud.client.views import RoleView, TrustView

DAY_MS: Final = 24 * 3600 * 1000
app = typer.Typer(help="Release keys: who must sign what by when.", no_args_is_help=True)

rotations = typer.Typer(
    help="Let other keys stand for a role; without --key the controller makes one, if it had the old one.",
    no_args_is_help=True,
)
rotations.command("ca")(rotate_ca)
app.add_typer(rotations, name="rotate")

Threshold = Annotated[int | None, typer.Option(min=1, help="So many of the keys must sign.")]
Keys = Annotated[
    list[str] | None, typer.Option("--key", help="Private key: a file, or hsm:ID?label=TOKEN (PKCS#11).")
]
Publics = Annotated[list[Path] | None, typer.Option("--key", help="Public half of a new key: FILE.pub.json.")]


@app.command("status")
def status(context: typer.Context, output: Output = Format.TABLE) -> None:
    """Show who must sign what by when, and how many devices believe it."""
    with get_connection(context).open() as client:
        view = client.trust()
    if output is Format.JSON:
        print_json(view)
    else:
        _print(view)


@app.command("init")
def init(
    data: Annotated[
        Path, typer.Option(envvar="FLEET_DATA", help="Data folder of the controller, which must not run yet.")
    ],
    keys: Annotated[
        Path | None, typer.Option(help="Folder for new root and targets keys: not on this machine.")
    ] = None,
    root: Annotated[list[str] | None, typer.Option(help="Root key at hand: file, or hsm:ID?label=..")] = None,
    root_public: Annotated[list[Path] | None, typer.Option(help="Public half of another root key.")] = None,
    root_threshold: Annotated[int, typer.Option(min=1, help="So many root keys must sign.")] = 1,
    targets: Annotated[list[str] | None, typer.Option(help="Targets key at hand.")] = None,
    targets_public: Annotated[list[Path] | None, typer.Option(help="Public half of another one.")] = None,
    targets_threshold: Annotated[int, typer.Option(min=1, help="So many targets keys must sign.")] = 1,
) -> None:
    """Begin a controller whose root and targets keys lie elsewhere. Without this, a controller makes all keys
    in its data folder at its first start: that is for a lab."""
    from fleet_cloud.adapters.trust.ceremony import Holders, begin_repository

    _check_places(data, keys, root, targets)
    holders = {
        "root": Holders(_at_hand(root, keys, "root"), _read_all(root_public), root_threshold),
        "targets": Holders(_at_hand(targets, keys, "targets"), _read_all(targets_public), targets_threshold),
    }
    begin_repository(data / "trust", holders["root"], holders["targets"], ask_secret)
    print(f"the release repository is in {data / 'trust'}; what the controller signs by itself is there too")
    if keys is not None:
        print(f"root and targets keys are in {keys}: keep them, and a copy, away from the controller")
    print(f"next: fleet serve --data {data}")


@app.command("key")
def key(
    file: Annotated[Path, typer.Argument(help="Where to write the key; its public half gets .pub.json.")],
    token: Annotated[
        str | None, typer.Option(help="Write the public half of hsm:ID?label=TOKEN instead of a new key.")
    ] = None,
) -> None:
    """Make a release key, sealed by a passphrase, and its public half for `init` and `rotate`."""
    from fleet_cloud.adapters.trust.ceremony import make_key, public_file, write_token_public

    if token is not None:
        keyid = write_token_public(token, public_file(file), ask_secret)
    else:
        keyid = make_key(file, ask_new(file.name))
    print(f"key {keyid}\npublic half: {public_file(file)}")


@app.command("sign")
def sign(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(help="What was exported; signatures are added to it.")
    ] = None,
    keys: Keys = None,
    export: Annotated[
        Path | None, typer.Option("--export", help="Fetch what waits to be signed into this file.")
    ] = None,
    signed: Annotated[
        Path | None, typer.Option("--import", help="Hand the signatures in this file to the controller.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Sign without asking.")] = False,
) -> None:
    """Sign releases: --export FILE at the controller, FILE --key KEY where the key is, --import FILE back."""
    if sum(one is not None for one in (file, export, signed)) != 1:
        raise Invalid(
            "one of FILE, --export FILE and --import FILE is needed",
            hint="fleet trust sign --help",
            code="trust.sign.usage",
        )
    if export is not None:
        with get_connection(context).open() as client:
            _write(export, client.to_sign())
        print(f"{export}: carry it to the keys, and sign it: fleet trust sign {export.name} --key KEY")
    elif signed is not None:
        content = _read_signed(signed)
        with get_connection(context).open() as client:
            _print_waiting(client.put_signed(content))
    elif file is not None:
        _sign(file, keys or [], yes=yes)


@rotations.command("root")
def rotate_root(context: typer.Context, keys: Publics = None, threshold: Threshold = None) -> None:
    """Let other keys say which keys count."""
    _rotate(context, "root", keys, threshold)


@rotations.command("targets")
def rotate_targets(context: typer.Context, keys: Publics = None, threshold: Threshold = None) -> None:
    """Let other keys sign manifests."""
    _rotate(context, "targets", keys, threshold)


@rotations.command("snapshot")
def rotate_snapshot(context: typer.Context) -> None:
    """Let another key sign what belongs together."""
    _rotate(context, "snapshot")


@rotations.command("timestamp")
def rotate_timestamp(context: typer.Context) -> None:
    """Let another key sign what is newest."""
    _rotate(context, "timestamp")


@rotations.command("assignment")
def rotate_assignment(context: typer.Context) -> None:
    """Let another key sign what devices should run; what they were told is signed again."""
    _rotate(context, "assignment")


@app.command("revoke")
def revoke(context: typer.Context, keyid: Annotated[str, typer.Argument(help="Id of the key.")]) -> None:
    """Let a key sign nothing any more. A role that the controller signs for gets a new key."""
    with get_connection(context).open() as client:
        known = client.trust()
        _print_waiting(client.revoke_key(_complete(known, keyid)))


def _rotate(
    context: typer.Context, role: str, keys: list[Path] | None = None, threshold: int | None = None
) -> None:
    with get_connection(context).open() as client:
        view = client.rotate(role, _read_all(keys), threshold)
    epoch = f", epoch {view.key_epoch} of the assignment key" if role == "assignment" else ""
    print(f"root {view.root_version}{epoch}")
    _print_waiting(view)


def _sign(file: Path, keys: list[str], *, yes: bool) -> None:
    from fleet_cloud.adapters.trust.ceremony import resolve_uri
    from fleet_cloud.adapters.trust.signing import Signing

    if not keys:
        raise Invalid("no key to sign with", hint="--key FILE, or --key hsm:ID", code="trust.sign.usage")
    signing = Signing(_read(file), [resolve_uri(one) for one in keys], ask_secret)
    print("to be signed:")
    for line in signing.describe():
        print(f"  {line}")
    print(f"all of it ends by {signing.ends:%Y-%m-%d}")
    if not yes and not typer.confirm("sign this?"):
        raise typer.Exit(1)
    content, count = signing.sign()
    _write(file, content)
    print(f"{count} signatures added; carry it back: fleet trust sign --import {file.name}")


def _complete(view: "TrustView", start: str) -> str:
    """Return the one key id that begins so; ids are long."""
    known = {keyid for role in view.roles for keyid in role.keyids} | {view.assignment_keyid}
    found = [keyid for keyid in known if keyid.startswith(start)] if len(start) >= 8 else []
    return found[0] if len(found) == 1 else start


def _at_hand(given: list[str] | None, folder: Path | None, role: str) -> list[str]:
    """Return the keys to sign with: those that are named, else a new one in ``folder``."""
    from fleet_cloud.adapters.trust.ceremony import make_key, resolve_uri

    if given:
        return [resolve_uri(one) for one in given]
    if folder is None:
        raise ValueError("checked before")
    file = folder / f"{role}.pem"
    if not file.exists():
        make_key(file, ask_new(file.name))
    return [resolve_uri(str(file))]


def _check_places(data: Path, keys: Path | None, root: list[str] | None, targets: list[str] | None) -> None:
    if keys is None and not (root and targets):
        raise Invalid(
            "where are the root and targets keys?",
            hint="--keys FOLDER makes them there; --root KEY and --targets KEY name what there is",
            code="trust.init.keys",
        )
    if keys is not None and data.absolute() in (keys.absolute(), *keys.absolute().parents):
        raise Invalid(
            f"{keys} is within the controller's data: whoever steals that has all keys",
            hint="choose a folder on a medium that you take away",
            code="trust.init.keys",
        )


def _print(view: "TrustView") -> None:
    now_ms = time.time() * 1000
    print_table(
        ("role", "signed by", "at the controller", "version", "ends in"),
        [_row(role, now_ms) for role in view.roles],
        empty="",
    )
    print(f"assignment key: {view.assignment_keyid[:12]}, epoch {view.key_epoch}")
    print(f"devices that believe root {view.root_version}: {_share(view.devices_by_root, view.root_version)}")
    print(f"devices that believe epoch {view.key_epoch}: {_share(view.devices_by_epoch, view.key_epoch)}")
    if view.devices_silent:
        print(f"devices that have not said: {view.devices_silent}")
    _print_waiting(view)


def _row(role: "RoleView", now_ms: float) -> tuple[str, ...]:
    keys = " ".join(keyid[:12] for keyid in role.keyids)
    at_hand = "all" if len(role.at_hand) == len(role.keyids) else f"{len(role.at_hand)} of {len(role.keyids)}"
    days = (role.expires_ms - now_ms) / DAY_MS
    return role.role, f"{role.threshold} of {keys}", at_hand, str(role.version), f"{days:.0f} d"


def _share(counts: dict[str, int], newest: int) -> str:
    return f"{counts.get(str(newest), 0)} of {sum(counts.values())}"


def _print_waiting(view: "TrustView") -> None:
    if not view.waiting:
        print("nothing waits to be signed")
        return
    print("waits to be signed (fleet trust sign --export FILE):")
    bins = [one for one in view.waiting if one.role.startswith("manifests-")]
    for one in [one for one in view.waiting if one not in bins]:
        print(f"  {one.role} {one.version}: {_missing(one.missing, one.keyids)}")
    if bins:
        print(f"  manifests, {len(bins)} lists: {_missing(max(b.missing for b in bins), bins[0].keyids)}")


def _missing(missing: int, keyids: list[str]) -> str:
    if missing < 1:
        return "signed, and waits for the others"
    return f"{missing} more of {' '.join(keyid[:12] for keyid in keyids)}"


def _read_all(files: list[Path] | None) -> list[str]:
    return [_read(file).decode(errors="replace") for file in files or []]


def _read_signed(file: Path) -> bytes:
    from fleet_cloud.adapters.trust.bundle import without_contents

    return without_contents(_read(file))


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as exc:
        raise Invalid(
            f"{file} cannot be read: {exc.strerror}", hint="is the path right?", code="trust.file"
        ) from exc


def _write(file: Path, content: bytes) -> None:
    from fleet_shared.durable import write_durably

    try:
        write_durably(file, content)
    except OSError as exc:
        raise Invalid(
            f"{file} cannot be written: {exc.strerror}", hint="choose another place", code="trust.file"
        ) from exc

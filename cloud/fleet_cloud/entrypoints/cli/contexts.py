"""Contexts: the controllers that a person has signed in to, by name; one of them is the current one."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from fleet_cloud.entrypoints.cli.secret_store import SecretStore, config_folder
from fleet_cloud.errors import Conflict, Invalid, NotFound, SettingsError
from fleet_shared.durable import write_durably

FILE: Final = "contexts.json"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """``pinned``: the controller is known by certificates of its own, which lie beside."""

    name: str
    server: str
    pinned: bool = False


class _Saved(msgspec.Struct, frozen=True, kw_only=True):
    current: str | None = None
    contexts: tuple[Context, ...] = ()


@dataclass(frozen=True, slots=True)
class Contexts:
    folder: Path

    @property
    def secrets(self) -> SecretStore:
        return SecretStore(self.folder)

    def all(self) -> tuple[Context, ...]:
        return self._load().contexts

    def current(self) -> Context | None:
        saved = self._load()
        return next((one for one in saved.contexts if one.name == saved.current), None)

    def get(self, name: str) -> Context:
        known = self.all()
        found = next((one for one in known if one.name == name), None)
        if found is None:
            names = ", ".join(one.name for one in known)
            raise NotFound(
                f"no context {name!r}",
                hint=f"there are {names}" if names else "sign in first: fleet login URL",
                code="context.unknown",
            )
        return found

    def find_server(self, server: str) -> Context | None:
        """Return the context of that server: the current one, if it is one of several."""
        saved = self._load()
        of_server = [one for one in saved.contexts if one.server == server]
        return next((one for one in of_server if one.name == saved.current), next(iter(of_server), None))

    def ca_file(self, context: Context) -> Path | None:
        return self.folder / "ca" / f"{context.name}.pem" if context.pinned else None

    def put(self, context: Context, token: str, ca_pem: str | None) -> str:
        """Keep a context and make it the current one; return where its token lies, for people."""
        check_name(context.name)
        self._make_folder()
        if ca_pem is not None:
            write_durably(self.folder / "ca" / f"{context.name}.pem", ca_pem.encode())
        place = self.secrets.put(context.name, token)
        others = tuple(one for one in self.all() if one.name != context.name)
        self._save(_Saved(current=context.name, contexts=(*others, context)))
        return place

    def use(self, name: str) -> Context:
        found = self.get(name)
        self._save(msgspec.structs.replace(self._load(), current=name))
        return found

    def rename(self, old: str, new: str) -> None:
        context = self.get(old)
        check_name(new)
        if any(one.name == new for one in self.all()):
            raise Conflict(
                f"there is a context {new!r} already", hint="choose another name", code="context.exists"
            )
        was_current = self.current()
        token, ca_file = self.secrets.get(old), self.ca_file(context)
        ca_pem = None if ca_file is None else ca_file.read_text()
        self.put(msgspec.structs.replace(context, name=new), token or "", ca_pem)
        self.remove(old)
        if was_current is not None and was_current.name != old:
            self.use(was_current.name)

    def remove(self, name: str) -> None:
        context = self.get(name)
        saved = self._load()
        kept = tuple(one for one in saved.contexts if one.name != name)
        self._save(_Saved(current=None if saved.current == name else saved.current, contexts=kept))
        self.secrets.remove(name)
        if (ca_file := self.ca_file(context)) is not None:
            ca_file.unlink(missing_ok=True)

    def _load(self) -> _Saved:
        path = self.folder / FILE
        try:
            return msgspec.json.decode(path.read_bytes(), type=_Saved)
        except FileNotFoundError:
            return _Saved()
        except (OSError, msgspec.MsgspecError) as exc:
            raise SettingsError(
                f"{path} cannot be read: {exc}", hint="remove it, and sign in again: fleet login URL",
                code="context.file",
            ) from exc  # fmt: skip

    def _save(self, saved: _Saved) -> None:
        self._make_folder()
        write_durably(self.folder / FILE, msgspec.json.format(msgspec.json.encode(saved)), mode=0o600)

    def _make_folder(self) -> None:
        (self.folder / "ca").mkdir(mode=0o700, parents=True, exist_ok=True)


def open_contexts() -> Contexts:
    return Contexts(config_folder())


def check_name(name: str) -> str:
    if _NAME.fullmatch(name):
        return name
    raise Invalid(
        f"{name!r} is no name for a context",
        hint="letters, digits, '.', '_' and '-'; for example berlin",
        code="context.name",
    )

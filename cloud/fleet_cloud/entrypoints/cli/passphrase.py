"""Passphrases of key files and PINs of tokens: from the environment, else asked for; never arguments."""

import os
import sys
from pathlib import Path
from typing import Final

import typer

from fleet_cloud.errors import Invalid

SEALED_BY: Final = "FLEET_TRUST_PASSPHRASE"
SEALED_BY_FILE: Final = "FLEET_TRUST_PASSPHRASE_FILE"
PIN: Final = "FLEET_TRUST_PIN"
CHARS_MIN: Final = 8


def ask_secret(name: str) -> str:
    """Return the secret that ``name`` describes; raise `Invalid` (``trust.passphrase``)."""
    if name == "pin":
        return os.environ.get(PIN) or _prompt("PIN of the token", PIN)
    return _given() or _prompt(name, SEALED_BY)


def ask_new(name: str) -> str:
    """Return the passphrase for a new key; typed twice."""
    secret = _given() or _prompt(f"passphrase for {name}", SEALED_BY, twice=True)
    if len(secret) < CHARS_MIN:
        raise Invalid(
            f"the passphrase has fewer than {CHARS_MIN} characters",
            hint="take a few words",
            code="trust.passphrase",
        )
    return secret


def _given() -> str:
    if file := os.environ.get(SEALED_BY_FILE):
        try:
            return Path(file).read_text().rstrip("\n")
        except (OSError, UnicodeDecodeError) as exc:
            raise Invalid(
                f"{SEALED_BY_FILE} cannot be read: {exc}", hint="is the path right?", code="trust.passphrase"
            ) from exc
    return os.environ.get(SEALED_BY, "")


def _prompt(name: str, variable: str, *, twice: bool = False) -> str:
    if not sys.stdin.isatty():
        raise Invalid(
            f"nobody can be asked for the {name} here", hint=f"set {variable}", code="trust.passphrase"
        )
    return str(typer.prompt(name, hide_input=True, confirmation_prompt=twice, err=True))

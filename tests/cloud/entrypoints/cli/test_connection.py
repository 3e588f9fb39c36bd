"""Where a command connects, and with which token: a token goes only to the server that it is for."""

from pathlib import Path

import pytest

from fleet_cloud.entrypoints.cli.connection import DEFAULT_SERVER, Connection, Wanted, resolve
from fleet_cloud.entrypoints.cli.contexts import Context, Contexts

BERLIN = Connection("https://berlin", "token-berlin", "berlin.pem")
HERE = Connection("http://127.0.0.1:8470", "token-here")


@pytest.mark.parametrize(
    ("wanted", "context", "local", "expected"),
    [
        (Wanted(), None, None, Connection(DEFAULT_SERVER, None)),
        (Wanted(), None, HERE, HERE),
        (Wanted(), BERLIN, HERE, BERLIN),
        (Wanted(server="https://elsewhere"), BERLIN, HERE, Connection("https://elsewhere", None)),
        (Wanted(server=HERE.server), BERLIN, HERE, HERE),
        (Wanted(server=BERLIN.server), BERLIN, HERE, BERLIN),
        (Wanted(token="mine"), BERLIN, HERE, Connection("https://berlin", "mine", "berlin.pem")),
        (
            Wanted(server="https://elsewhere", token="mine", ca_file="ca.pem"),
            BERLIN,
            HERE,
            Connection("https://elsewhere", "mine", "ca.pem"),
        ),
    ],
)
def test_the_connection(
    wanted: Wanted, context: Connection | None, local: Connection | None, expected: Connection
) -> None:
    assert resolve(wanted, context, local) == expected


def test_of_several_contexts_of_a_server_the_current_one_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
    contexts = Contexts(tmp_path)
    for name in ("viewer", "admin"):
        contexts.put(Context(name=name, server="https://berlin"), f"token-{name}", None)
    assert contexts.find_server("https://berlin") == contexts.get("admin")
    contexts.use("viewer")
    assert contexts.find_server("https://berlin") == contexts.get("viewer")
    assert contexts.find_server("https://oslo") is None

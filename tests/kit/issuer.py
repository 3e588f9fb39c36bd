"""A small OpenID provider over real HTTP: it publishes its keys, signs tokens, rotates, and goes away."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

AUDIENCE = "fleet"
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def make_rsa() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _set_event() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


@dataclass
class Provider:
    """``keys``: what it publishes, by id. ``named``: what it calls itself, if another than its address.
    ``asked``: how often its keys were asked for. ``answers``: while it is cleared the provider hangs."""

    url: str
    keys: dict[str, Key] = field(default_factory=dict)
    extra: list[dict[str, Any]] = field(default_factory=list)
    named: str | None = None
    away: bool = False
    answers: threading.Event = field(default_factory=_set_event)
    asked: int = 0

    def sign(self, kid: str = "one", *, key: Key | None = None, alg: str | None = None, **claims: Any) -> str:
        """Return a token for Ann of the group ``ops``; ``claims`` change it, none takes one out."""
        now = int(time.time())
        whole = {
            "iss": self.url, "aud": AUDIENCE, "sub": "ann", "iat": now, "exp": now + 300, "groups": ["ops"],
            **claims,
        }  # fmt: skip
        signer = key or self.keys[kid]
        kind = alg or ("RS256" if isinstance(signer, rsa.RSAPrivateKey) else "ES256")
        kept = {name: value for name, value in whole.items() if value is not None}
        return jwt.encode(kept, signer, kind, headers={"kid": kid})

    def document(self, path: str) -> dict[str, Any] | None:
        if path == "/.well-known/openid-configuration":
            return {"issuer": self.named or self.url, "jwks_uri": f"{self.url}/keys"}
        if path == "/keys":
            self.asked += 1
            self.answers.wait(20)
            return {"keys": [*self.extra, *(_publish(kid, key) for kid, key in self.keys.items())]}
        return None


def _publish(kid: str, key: Key) -> dict[str, Any]:
    public = (
        RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
        if isinstance(key, rsa.RSAPrivateKey)
        else ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    )
    return {**public, "kid": kid, "use": "sig"}


@contextmanager
def running_provider() -> Iterator[Provider]:
    provider = Provider("")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = None if provider.away else provider.document(self.path)
            content = json.dumps(found).encode()
            self.send_response(503 if found is None else 200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Tests print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        provider.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield provider
        finally:
            server.shutdown()
            thread.join(20)

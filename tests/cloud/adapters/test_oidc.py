"""Bearer tokens of an OpenID provider: what counts, and everything that must not."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from httpx import Client

from fleet_cloud.adapters.oidc.issuer import FETCH_AGAIN_S, KEYS_FRESH_S, KEYS_LIFE_S, OpenIdIssuer
from fleet_cloud.errors import Forbidden, Unavailable
from fleet_cloud.services.ports import Identity
from tests.cloud.entrypoints.api.test_routes import V1, expect
from tests.kit.api import running_api
from tests.kit.issuer import AUDIENCE, Provider, make_rsa, running_provider
from tests.kit.waiting import wait_for

KEY = make_rsa()


@dataclass
class Moving:
    at_s: float = 1000.0

    def now_s(self) -> float:
        return self.at_s


@pytest.fixture
def provider() -> Iterator[Provider]:
    with running_provider() as provider:
        provider.keys["one"] = KEY
        yield provider


@pytest.fixture
def clock() -> Moving:
    return Moving()


@pytest.fixture
def issuer(provider: Provider, clock: Moving) -> OpenIdIssuer:
    return OpenIdIssuer(provider.url, AUDIENCE, "groups", "sub", clock.now_s)


def test_a_token_of_the_issuer_says_who_and_what_he_belongs_to(
    provider: Provider, issuer: OpenIdIssuer
) -> None:
    assert issuer.verify(provider.sign()) == Identity("ann", frozenset({"ops"}))
    assert issuer.verify(provider.sign(groups="ops")).groups == {"ops"}
    assert issuer.verify(provider.sign(groups=None)).groups == frozenset()
    provider.keys["two"] = ec.generate_private_key(ec.SECP256R1())
    nested = OpenIdIssuer(provider.url, AUDIENCE, "realm_access.roles", "email")
    token = provider.sign("two", realm_access={"roles": ["x"]}, email="ann@example.org")
    assert nested.verify(token) == Identity("ann@example.org", frozenset({"x"}))


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://elsewhere"},
        {"aud": "another application"},
        {"aud": None},
        {"exp": int(time.time()) - 60},
        {"exp": None},
        {"nbf": int(time.time()) + 3600},
        {"iat": int(time.time()) + 3600},
        {"iat": None},
        {"sub": None},
        {"sub": "ann\nroot"},
    ],
)
def test_a_token_for_others_or_for_another_time_does_not_count(
    provider: Provider, issuer: OpenIdIssuer, claims: dict[str, Any]
) -> None:
    with pytest.raises(Forbidden) as caught:
        issuer.verify(provider.sign(**claims))
    assert caught.value.code == "api.unauthorized"


def test_clocks_may_differ_a_little(provider: Provider, issuer: OpenIdIssuer) -> None:
    issuer.verify(provider.sign(exp=int(time.time()) - 10, iat=int(time.time()) + 10))


def test_nobody_signs_with_what_is_public(provider: Provider, issuer: OpenIdIssuer) -> None:
    claims = jwt.decode(provider.sign(), options={"verify_signature": False})
    public = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    header = {"kid": "one"}
    unsigned = jwt.encode(claims, "", "none", headers=header)
    with pytest.raises(jwt.InvalidKeyError):
        jwt.encode(claims, public, "HS256", headers=header)  # the library refuses to make one
    symmetric = jwt.encode(claims, public.hex(), "HS256", headers=header)
    foreign = provider.sign(key=make_rsa())
    for token in (unsigned, symmetric, foreign, "a.b.c", provider.sign()[:-8], f"{provider.sign()}x"):
        with pytest.raises(Forbidden):
            issuer.verify(token)


def test_keys_are_rotated_and_withdrawn(provider: Provider, issuer: OpenIdIssuer, clock: Moving) -> None:
    old = provider.sign()
    issuer.verify(old)
    assert provider.asked == 1
    provider.keys = {"two": make_rsa()}
    with pytest.raises(Forbidden):
        issuer.verify(provider.sign("two"))  # the keys were fetched a moment ago
    clock.at_s += FETCH_AGAIN_S
    issuer.verify(provider.sign("two"))
    with pytest.raises(Forbidden):
        issuer.verify(old)
    assert provider.asked == 2


def test_a_withdrawn_key_counts_for_minutes_at_most(
    provider: Provider, issuer: OpenIdIssuer, clock: Moving
) -> None:
    old = provider.sign()
    issuer.verify(old)
    provider.keys = {"two": make_rsa()}
    clock.at_s += KEYS_FRESH_S + 1
    with pytest.raises(Forbidden):
        issuer.verify(old)


def test_tokens_with_made_up_keys_make_no_traffic(provider: Provider, issuer: OpenIdIssuer) -> None:
    issuer.verify(provider.sign())
    stranger = make_rsa()
    for number in range(50):
        with pytest.raises(Forbidden):
            issuer.verify(provider.sign(f"made-up-{number}", key=stranger))
    assert provider.asked == 1


def test_an_issuer_that_is_away_is_borne_for_a_while_and_then_nobody_gets_in(
    provider: Provider, issuer: OpenIdIssuer, clock: Moving
) -> None:
    token = provider.sign()
    issuer.verify(token)
    provider.away = True
    clock.at_s += KEYS_LIFE_S
    issuer.verify(token)
    clock.at_s += FETCH_AGAIN_S
    with pytest.raises(Unavailable) as caught:
        issuer.verify(token)
    assert caught.value.code == "oidc.keys"


def test_what_calls_itself_otherwise_or_publishes_secrets_is_not_believed(
    provider: Provider, issuer: OpenIdIssuer, clock: Moving
) -> None:
    provider.named = "https://elsewhere"
    with pytest.raises(Unavailable):
        issuer.verify(provider.sign())
    provider.named = None
    provider.extra = [{"kty": "oct", "k": "c2VjcmV0", "kid": "secret"}, {"kty": "strange", "kid": "x"}]
    clock.at_s += FETCH_AGAIN_S
    issuer.verify(provider.sign())
    assert set(issuer._keys) == {"one"}


def test_plain_http_is_for_this_machine_only() -> None:
    far = OpenIdIssuer("http://issuer.example", AUDIENCE, "groups", "sub")
    token = Provider("http://issuer.example", {"one": KEY}).sign()
    with pytest.raises(Unavailable):
        far.verify(token)


def test_groups_have_roles_at_the_api(tmp_path: Path, provider: Provider, issuer: OpenIdIssuer) -> None:
    with running_api(tmp_path, issuer=issuer) as api, Client(base_url=api.url, timeout=60) as http:
        who = http.get(f"{V1}/whoami", headers={"Authorization": f"Bearer {provider.sign()}"})
        assert who.json() == {"name": "oidc:ann", "role": "operator", "origin": "127.0.0.1"}
        headers = {"Authorization": f"Bearer {provider.sign()}"}
        expect(http.get(f"{V1}/tokens", headers=headers), 403, "api.role")
        headers = {"Authorization": f"Bearer {provider.sign(groups=['staff'])}"}
        expect(http.get(f"{V1}/whoami", headers=headers), 403, "api.role")
        headers = {"Authorization": f"Bearer {provider.sign(aud='x')}"}
        expect(http.get(f"{V1}/whoami", headers=headers), 401, "api.unauthorized")


def test_a_key_of_another_kind_does_not_verify(provider: Provider, issuer: OpenIdIssuer) -> None:
    assert isinstance(KEY, rsa.RSAPrivateKey)
    with pytest.raises(Forbidden):
        issuer.verify(provider.sign(key=ec.generate_private_key(ec.SECP256R1())))


def test_a_provider_that_hangs_holds_up_nobody_whose_key_is_known(
    provider: Provider, issuer: OpenIdIssuer, clock: Moving
) -> None:
    issuer.verify(provider.sign())
    clock.at_s += KEYS_FRESH_S + 1
    provider.answers.clear()
    asking = threading.Thread(target=issuer.verify, args=[provider.sign()], daemon=True)
    asking.start()
    wait_for("the provider to be asked again", lambda: provider.asked == 2)
    others = [threading.Thread(target=issuer.verify, args=[provider.sign()], daemon=True) for _ in range(3)]
    for other in others:
        other.start()
    for other in others:
        other.join(10)
        assert not other.is_alive(), "it waits for the provider"
    assert asking.is_alive()
    provider.answers.set()
    asking.join(20)

"""Enrolment tokens as people carry them: printed, copied, cut off, changed."""

import base64
import json

import pytest

from fleet_shared.errors import TokenError
from fleet_shared.names import Digest
from fleet_shared.token import EnrolmentToken

TOKEN = EnrolmentToken(secret="s3cret", ca_sha256=Digest("a" * 64), root_sha256=Digest("b" * 64))
WRITTEN = (
    "fleet1.eyJzZWNyZXQiOiJzM2NyZXQiLCJjYV9zaGEyNTYiOiJhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhY"
    "WFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhIiwicm9vdF9zaGEyNTYiOiJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiY"
    "mJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiIn0"
)


def write(**document: str) -> str:
    return "fleet1." + base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def test_a_token_is_written_as_it_always_was() -> None:
    assert str(TOKEN) == WRITTEN
    assert EnrolmentToken.parse(WRITTEN) == TOKEN


def test_characters_that_a_shell_or_an_address_would_change_are_not_used() -> None:
    token = str(EnrolmentToken(secret="ÿþ>?~" * 9, ca_sha256=Digest("a" * 64), root_sha256=Digest("b" * 64)))
    assert not set(token) & set("+/= '\"$")
    assert EnrolmentToken.parse(token).secret == "ÿþ>?~" * 9


@pytest.mark.parametrize("name", ["ca_sha256", "root_sha256"])
@pytest.mark.parametrize("digest", ["", "b" * 63, "B" * 64])
def test_both_digests_must_be_digests(name: str, digest: str) -> None:
    document = {"secret": "s3cret", "ca_sha256": "a" * 64, "root_sha256": "b" * 64, name: digest}
    with pytest.raises(TokenError) as caught:
        EnrolmentToken.parse(write(**document))
    assert caught.value.code == "enrol.token.invalid"
    assert "fleet device token" in caught.value.hint


def test_a_field_that_is_missing_and_the_prefix_alone() -> None:
    for text in (
        write(secret="s", ca_sha256="a" * 64),
        "fleet1.",
        WRITTEN.removeprefix("fleet1."),
        WRITTEN[7:],
    ):
        with pytest.raises(TokenError):
            EnrolmentToken.parse(text)


def test_a_token_has_at_most_1024_characters() -> None:
    longest = write(secret="s" * 580, ca_sha256="a" * 64, root_sha256="b" * 64)
    padded = longest + " " * (1024 - len(longest))
    assert EnrolmentToken.parse(padded).secret == "s" * 580
    with pytest.raises(TokenError):
        EnrolmentToken.parse(padded + " ")

"""Selectors: a push to more devices than were meant cannot be taken back."""

import pytest

from fleet_cloud.domain.selector import CHARS_MAX, Operator, Requirement, parse_selector
from fleet_cloud.errors import InvalidSelector

DEVICE = {"id": "pi-1", "site": "berlin", "hw": "rpi4"}


def need(key: str, operator: Operator, *values: str) -> Requirement:
    return Requirement(key, operator, frozenset(values))


@pytest.mark.parametrize(
    ("text", "requirements"),
    [
        ("all", ()),
        ("  all ", ()),
        ("a=b", (need("a", Operator.IN, "b"),)),
        ("a == b", (need("a", Operator.IN, "b"),)),
        ("a!=b", (need("a", Operator.NOT_IN, "b"),)),
        ("a in (b)", (need("a", Operator.IN, "b"),)),
        ("a in (b , c)", (need("a", Operator.IN, "b", "c"),)),
        ("a notin (b,c)", (need("a", Operator.NOT_IN, "b", "c"),)),
        ("a", (need("a", Operator.SET),)),
        ("! a", (need("a", Operator.NOT_SET),)),
        ("a in (b,c),d=e,!f", (
            need("a", Operator.IN, "b", "c"), need("d", Operator.IN, "e"), need("f", Operator.NOT_SET),
        )),
        ("in=x", (need("in", Operator.IN, "x"),)),
    ],
)  # fmt: skip
def test_each_form_is_read_as_it_is_meant(text: str, requirements: tuple[Requirement, ...]) -> None:
    parsed = parse_selector(text)
    assert parsed.requirements == requirements
    assert str(parsed) == text.strip()


@pytest.mark.parametrize("text", ["allowed=x", "all=x", "all,site=oslo", "alle", "not-all", "site=oslo,all"])
def test_only_the_word_all_alone_means_every_device(text: str) -> None:
    assert not parse_selector(text).matches(DEVICE)


@pytest.mark.parametrize(
    "text",
    ["a=b c", "a=b,", ",a=b", "a in b", "a in (b", "a in b)", "a in (b,)", "a in (,b)", "a in (b c)", "a!b",
     "a=!b", "!a=b", "!!a", "a=", "a>1", "a~b", "(a)", "a\nb", "all all", "-a", "a=-b", "a IN (b)",
     "a in(b)c"],
)  # fmt: skip
def test_what_is_not_one_of_the_forms_is_refused(text: str) -> None:
    with pytest.raises(InvalidSelector) as caught:
        parse_selector(text)
    assert caught.value.code == "selector.invalid"
    assert "site=berlin" in caught.value.hint


def test_all_requirements_must_hold() -> None:
    assert parse_selector("site=berlin,hw=rpi4").matches(DEVICE)
    assert not parse_selector("site=berlin,hw=rpi5").matches(DEVICE)
    assert not parse_selector("site=oslo,hw=rpi4").matches(DEVICE)


def test_a_missing_key_differs_from_every_value() -> None:
    assert parse_selector("zone!=a").matches(DEVICE)
    assert parse_selector("zone notin (a)").matches(DEVICE)
    assert not parse_selector("zone=a").matches(DEVICE)
    assert not parse_selector("zone in (a)").matches(DEVICE)


def test_a_selector_has_a_limit() -> None:
    longest = "a" * CHARS_MAX
    assert parse_selector(longest).requirements == (Requirement(longest, Operator.SET),)
    with pytest.raises(InvalidSelector) as caught:
        parse_selector(longest + "a")
    assert str(CHARS_MAX) in caught.value.message

"""docs/security.md says nothing that no test shows: each test that it names exists, and its table of attacks
is the one that is carried out."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)(?:\[[^]`]*\])?`", PAGE)))


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_test_that_the_page_names_is_there(path: str, name: str) -> None:
    tree = ast.parse((ROOT / path).read_text())
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_the_table_is_the_one_that_is_carried_out() -> None:
    from tests.kit.attacks import ATTACKS

    row = re.compile(r"^\| ([^|`]+) \| ([^|`]+) \| (?:`([\w.]+)`|-) \| `tests/[^`]+` \|$", re.MULTILINE)
    assert [tuple(found) for found in row.findall(PAGE)] == [
        (attack.name, attack.who.value, attack.code) for attack in ATTACKS
    ]


def test_each_attack_has_a_case_of_its_own() -> None:
    """An attack in the table that no test is parametrized by, or finds by its name, would be a word only."""
    from tests.kit.attacks import ATTACKS, AWAY

    cases = re.findall(r"`tests/system/[\w]+\.py::\w+\[([^]`]+)\]`", PAGE)
    source = (ROOT / "tests" / "system" / "test_trust_attacks.py").read_text()
    for attack in set(ATTACKS) - set(AWAY):
        assert str(attack) in cases or f'"{attack.name}"' in source, attack

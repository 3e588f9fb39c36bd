"""The chain of the audit log."""

from dataclasses import fields, replace
from typing import Any

import pytest

from fleet_cloud.domain.audit import GENESIS, AuditEntry, Break, Chained, find_break, hash_entry

ENTRY = AuditEntry(1, 5, "ann", "10.0.0.1", "device.label", "pi-1", '{"a":"1"}', None)


def make_chain(count: int = 4) -> list[Chained]:
    chain, previous = [], GENESIS
    for seq in range(1, count + 1):
        entry = replace(ENTRY, seq=seq, at_ms=seq)
        previous = hash_entry(previous, entry)
        chain.append(Chained(entry, previous))
    return chain


def test_a_chain_is_whole_from_its_start_and_from_any_entry() -> None:
    chain = make_chain()
    assert find_break(chain) is None
    assert find_break(chain[2:], chain[1].hash, 2) is None
    assert find_break([]) is None


@pytest.mark.parametrize("field", [field.name for field in fields(AuditEntry) if field.name != "seq"])
def test_any_changed_field_breaks_it(field: str) -> None:
    chain = make_chain()
    value = getattr(chain[1].entry, field)
    changed: Any = value + 1 if isinstance(value, int) else f"{value}x"
    chain[1] = replace(chain[1], entry=replace(chain[1].entry, **{field: changed}))
    found = find_break(chain)
    assert isinstance(found, Break)
    assert found.seq == 2


def test_a_removed_entry_and_a_moved_boundary_break_it() -> None:
    chain = make_chain()
    assert find_break([chain[0], *chain[2:]]) == Break(2, "entry 2 is missing: 3 comes next")
    assert find_break(chain[1:]) is not None
    one = replace(ENTRY, action="ab", subject="c")
    assert hash_entry(GENESIS, one) != hash_entry(GENESIS, replace(one, action="a", subject="bc"))
    assert hash_entry(GENESIS, replace(one, after=None)) != hash_entry(GENESIS, replace(one, after=""))

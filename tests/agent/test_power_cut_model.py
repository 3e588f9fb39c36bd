"""The model of a power cut itself, on literal examples."""

import pytest

from fleet_shared.durable import DiskOperation as D
from tests.kit.power_cut import Disk, Operation, Tree

NEW = [
    Operation(D.CREATE, "tmp"),
    Operation(D.WRITE, "tmp", content=b"new!"),
    Operation(D.SYNC, "tmp"),
    Operation(D.RENAME, "tmp", "file"),
    Operation(D.SYNC_FOLDER, ""),
]


def left_after(operations: list[Operation], start: Tree) -> list[Tree]:
    disk = Disk(start)
    for operation in operations:
        disk.apply(operation)
    return list(disk.cuts())


@pytest.mark.parametrize(
    ("done", "left"),
    [
        (0, [{"file": b"old"}]),
        (1, [{"file": b"old"}, {"file": b"old", "tmp": b""}]),
        (3, [{"file": b"old"}, {"file": b"old", "tmp": b"new!"}]),
        (4, [{"file": b"old"}, {"file": b"old", "tmp": b"new!"}, {"file": b"new!"}]),
        (5, [{"file": b"new!"}]),
    ],
)
def test_a_durable_write_is_there_or_not(done: int, left: list[Tree]) -> None:
    assert left_after(NEW[:done], {"file": b"old"}) == left


def test_without_the_sync_of_the_bytes_the_name_may_hold_none_a_part_or_zeros() -> None:
    left = left_after([*NEW[:2], *NEW[3:]], {"file": b"old"})
    assert left == [{"file": b"new!"}, {"file": b""}, {"file": b"ne"}, {"file": bytes(4)}]


def test_bytes_after_a_sync_may_be_lost_and_those_before_not() -> None:
    longer = Operation(D.WRITE, "file", content=b"old and new")
    left = left_after([longer], {"file": b"old"})
    assert left == [{"file": b"old and new"}, {"file": b"old"}, {"file": b"old a"}, {"file": bytes(11)}]


def test_a_folder_goes_with_its_name_whatever_was_synced_in_it() -> None:
    inside = [
        Operation(D.MAKE_FOLDER, "new"),
        Operation(D.CREATE, "new/file"),
        Operation(D.WRITE, "new/file", content=b"x"),
        Operation(D.SYNC, "new/file"),
        Operation(D.SYNC_FOLDER, "new"),
    ]
    assert left_after(inside, {}) == [{}, {"new": None, "new/file": b"x"}]
    assert left_after([*inside, Operation(D.SYNC_FOLDER, "")], {}) == [{"new": None, "new/file": b"x"}]


def test_removals_may_come_back_each_by_itself() -> None:
    left = left_after([Operation(D.REMOVE, "a"), Operation(D.REMOVE, "b")], {"a": b"1", "b": b"2"})
    assert left == [{"a": b"1", "b": b"2"}, {"b": b"2"}, {"a": b"1"}, {}]

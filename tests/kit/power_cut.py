"""What a power cut may leave of a folder, from the operations that were done to it.

The model is what POSIX promises, which is less than ext4 gives: an fsync of a file makes its bytes
durable and nothing else; an fsync of a folder makes its entries durable and nothing else. Until then
each entry that was made, renamed or removed may be the old one or the new one, in any combination, and
the bytes of a file may be those of the last fsync, all, half, or as many zeros as it is long. A rename
is atomic. A database is its own file system: what it committed is there.

Combinations are bounded: all of them while four or fewer entries are open, else every prefix, every one
alone and every one left out; of files, one at a time differs from what was written.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path, PurePosixPath

from fleet_shared.durable import DiskOperation
from tests.kit.disk_events import DiskEvent

Tree = dict[str, bytes | None]
"""Paths below the root; none is a folder."""
ALL_COMBINATIONS_UPTO = 4


@dataclass(frozen=True)
class Operation:
    """``content``: all of a file's bytes after it was written."""

    kind: DiskOperation
    path: str
    target: str = ""
    content: bytes = b""

    @property
    def is_sync(self) -> bool:
        return self.kind in (DiskOperation.SYNC, DiskOperation.SYNC_FOLDER)

    def __str__(self) -> str:
        return f"{self.kind.value} {self.path or '.'}{' -> ' + self.target if self.target else ''}"


@dataclass
class Recording:
    """Listens to the events below ``root``; ``observe`` is asked before each operation for whatever
    belongs to that moment, and once more by `end`."""

    root: Path
    observe: Callable[[], object]
    start: Tree = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)
    moments: list[object] = field(default_factory=list)

    def hear(self, event: DiskEvent) -> None:
        path = Path(event.path)
        if not path.is_relative_to(self.root):
            return
        if event.moment == "before":
            self._moment = self.observe()
            return
        kind = DiskOperation(event.operation)
        content = path.read_bytes() if kind in (DiskOperation.CREATE, DiskOperation.WRITE) else b""
        target = self._relative(event.target) if event.target else ""
        self.operations.append(Operation(kind, self._relative(event.path), target, content))
        self.moments.append(self._moment)

    def end(self) -> None:
        self.moments.append(self.observe())

    def _relative(self, path: str) -> str:
        name = Path(path).relative_to(self.root).as_posix()
        return "" if name == "." else name


@dataclass
class _File:
    written: bytes
    synced: bytes | None


@dataclass
class _Folder:
    entries: dict[str, "_File | _Folder"] = field(default_factory=dict)


@dataclass(frozen=True)
class _Change:
    """A change of entries that is not durable yet; ``node`` none: the name goes. A rename frees
    ``old_name`` in ``old_folder`` at the same instant."""

    folder: _Folder
    name: str
    node: _File | _Folder | None
    old_folder: _Folder | None = None
    old_name: str = ""

    def touches(self, folder: _Folder) -> bool:
        return self.folder is folder or self.old_folder is folder


class Disk:
    """Takes operations one after another, and tells at any time what a cut would leave."""

    def __init__(self, start: Tree) -> None:
        self._root = _Folder()
        self._open: list[_Change] = []
        for path in sorted(start):
            content = start[path]
            node = _Folder() if content is None else _File(content, content)
            folder, name = self._find_parent(path, {})
            folder.entries[name] = node

    def apply(self, operation: Operation) -> None:
        match operation.kind:
            case DiskOperation.SYNC:
                file = self._find(operation.path)
                assert isinstance(file, _File)
                file.synced = file.written
            case DiskOperation.SYNC_FOLDER:
                self._sync_folder(operation.path)
            case DiskOperation.COMMIT:
                pass
            case _:
                self._change(operation)

    def cuts(self) -> Iterator[Tree]:
        """What a cut now may leave, each state once."""
        seen: set[tuple[tuple[str, bytes | None], ...]] = set()
        for changes in _combinations(self._open):
            entries = self._entries(changes)
            for tree in _contents(dict(_walk(self._root, entries))):
                key = tuple(sorted(tree.items()))
                if key not in seen:
                    seen.add(key)
                    yield tree

    def _change(self, operation: Operation) -> None:
        path = operation.path
        folder, name = self._find_parent(path, self._now())
        match operation.kind:
            case DiskOperation.CREATE | DiskOperation.WRITE:
                file = self._now().get(id(folder), folder.entries).get(name)
                if isinstance(file, _File):
                    file.written = operation.content
                else:
                    self._open.append(_Change(folder, name, _File(operation.content, None)))
            case DiskOperation.MAKE_FOLDER:
                self._open.append(_Change(folder, name, _Folder()))
            case DiskOperation.REMOVE | DiskOperation.REMOVE_FOLDER:
                self._open.append(_Change(folder, name, None))
            case DiskOperation.RENAME:
                node = self._find(path)
                to, new_name = self._find_parent(operation.target, self._now())
                self._open.append(_Change(to, new_name, node, folder, name))
            case _:
                raise ValueError(f"{operation} changes no entry")

    def _sync_folder(self, path: str) -> None:
        folder = self._find(path)
        assert isinstance(folder, _Folder)
        durable = [change for change in self._open if change.touches(folder)]
        for owner, entries in self._apply(durable).values():
            owner.entries = entries
        self._open = [change for change in self._open if change not in durable]

    def _apply(self, changes: list[_Change]) -> dict[int, tuple[_Folder, dict[str, _File | _Folder]]]:
        found: dict[int, tuple[_Folder, dict[str, _File | _Folder]]] = {}

        def entries(folder: _Folder) -> dict[str, _File | _Folder]:
            return found.setdefault(id(folder), (folder, dict(folder.entries)))[1]

        for change in changes:
            if change.old_folder is not None:
                entries(change.old_folder).pop(change.old_name, None)
            if change.node is None:
                entries(change.folder).pop(change.name, None)
            else:
                entries(change.folder)[change.name] = change.node
        return found

    def _entries(self, changes: list[_Change]) -> dict[int, dict[str, _File | _Folder]]:
        return {key: entries for key, (_, entries) in self._apply(changes).items()}

    def _now(self) -> dict[int, dict[str, _File | _Folder]]:
        return self._entries(self._open)

    def _find(self, path: str) -> _File | _Folder:
        node: _File | _Folder = self._root
        now = self._now()
        for name in PurePosixPath(path).parts:
            assert isinstance(node, _Folder)
            node = now.get(id(node), node.entries)[name]
        return node

    def _find_parent(self, path: str, now: dict[int, dict[str, _File | _Folder]]) -> tuple[_Folder, str]:
        *parents, name = PurePosixPath(path).parts
        folder = self._root
        for parent in parents:
            found = now.get(id(folder), folder.entries)[parent]
            assert isinstance(found, _Folder)
            folder = found
        return folder, name


def _combinations(changes: list[_Change]) -> Iterator[list[_Change]]:
    count = len(changes)
    if count <= ALL_COMBINATIONS_UPTO:
        for size in range(count + 1):
            yield from map(list, combinations(changes, size))
        return
    for index in range(count):
        yield changes[:index]
        yield [changes[index]]
        yield changes[:index] + changes[index + 1 :]
    yield changes


def _walk(
    folder: _Folder, now: dict[int, dict[str, _File | _Folder]], under: str = ""
) -> Iterator[tuple[str, _File | None]]:
    for name, node in now.get(id(folder), folder.entries).items():
        if isinstance(node, _File):
            yield under + name, node
        else:
            yield under + name, None
            yield from _walk(node, now, f"{under}{name}/")


def _contents(tree: dict[str, _File | None]) -> Iterator[Tree]:
    """The files as they were written, then with each alone as the disk may have it."""
    written: Tree = {path: None if file is None else file.written for path, file in tree.items()}
    yield written
    for path, file in tree.items():
        if file is not None and file.synced != file.written:
            kept = file.written
            for content in (file.synced or b"", kept[: len(kept) // 2], bytes(len(kept))):
                yield {**written, path: content}


def load_tree(root: Path, skip: Callable[[Path], bool]) -> Tree:
    return {
        path.relative_to(root).as_posix(): None if path.is_dir() else path.read_bytes()
        for path in root.rglob("*")
        if not skip(path)
    }


def write_tree(root: Path, tree: Tree) -> None:
    for path, content in sorted(tree.items()):
        if content is None:
            (root / path).mkdir(parents=True, exist_ok=True)
        else:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)

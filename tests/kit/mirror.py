"""A mirror before the controller: blobs and release files as its owner likes, and the rest as it is."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.kit.faulty_proxy import Fault, FaultyProxy, Handler, serving

RELEASES = "/releases/"
Lie = Callable[[str], "bytes | Fault | None"]
"""What is said for a path of the release repository: these bytes, this behaviour, or the truth (none)."""


@dataclass
class Mirror(FaultyProxy):
    """``lie`` is for release files, ``always`` (of the proxy) for blobs; ``lied``: about which paths."""

    lie: Lie | None = None
    lied: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def be_honest(self) -> None:
        self.lie = None
        self.tell()

    def answer(self, handler: Handler) -> None:
        said = self._find_lie(handler.path)
        if said is None:
            super().answer(handler)
            return
        self.lied.append(handler.path)
        handler.close_connection = True
        if callable(said):
            said(self, handler)
            return
        handler.send_response(200 if said else 404)
        handler.send_header("Content-Length", str(len(said)))
        handler.end_headers()
        handler.wfile.write(said)

    def _find_lie(self, path: str) -> "bytes | Fault | None":
        lie = self.lie
        return lie(path.removeprefix(RELEASES)) if lie is not None and path.startswith(RELEASES) else None


@contextmanager
def mirror_of(target_port: int) -> Iterator[Mirror]:
    with serving(Mirror(target_port)) as mirror:
        yield mirror


# -- lies


def copy_of(trust: Path) -> dict[str, bytes]:
    """Return all that a repository serves by now, by path."""
    folders = [trust / "metadata", trust / "targets"]
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    return {file.relative_to(trust).as_posix(): file.read_bytes() for file in files}


def only(files: Mapping[str, bytes]) -> Lie:
    """Serve these files, as if there was nothing else."""
    return lambda path: files.get(path, b"")


def instead(files: Mapping[str, bytes]) -> Lie:
    """Serve these files in place of those that are there."""
    return lambda path: files.get(path)


def behave(path: str, fault: Fault) -> Lie:
    return lambda asked: fault if asked == path else None


def older_parts(files: Mapping[str, bytes]) -> Lie:
    """Serve the newest list of today, and behind its names what was there before (``files``)."""

    def look(path: str) -> bytes | None:
        folder, _, name = path.rpartition("/")
        number, _, role = name.partition(".")
        if folder != "metadata" or not role.startswith("manifests-") or path in files:
            return None
        older = [one for one in files if one.startswith("metadata/") and one.endswith(f".{role}")]
        return files[max(older, key=_version)] if number.isdigit() and older else None

    return look


def _version(path: str) -> int:
    return int(path.removeprefix("metadata/").partition(".")[0])

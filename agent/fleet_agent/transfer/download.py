"""One blob, from wherever it comes: resumed where it stood, never longer than promised, digest verified."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fleet_agent.errors import TransferError
from fleet_agent.link.backoff import Backoff
from fleet_agent.transfer.allowance import Allowance
from fleet_agent.transfer.part import Part
from fleet_agent.transfer.policy import RETRIES_MAX, Budget, Step, decide_step, parse_retry_after_s
from fleet_agent.transfer.questions import NotYetError
from fleet_agent.transfer.response import AnswerError, Head, Response, Source, Wanted
from fleet_shared.durable import append, make_folder, sync_folder
from fleet_shared.names import Digest


@dataclass
class Counted:
    """Bytes of one download: ``fetched`` came over the wire, ``resumed`` were there from before and
    are part of the result. ``over_broker``: so many of the fetched ones came by MQTT."""

    fetched: int = 0
    resumed: int = 0
    over_broker: int = 0


@dataclass
class Downloader:
    """``source`` is where the bytes come from (asking it may block); ``progress`` is told each part's
    bytes, and a negative number when bytes are thrown away. ``aborted`` ends a download at once,
    whatever it waits for. ``allowance``: none for as many bytes as it takes. ``wall_s`` gives the
    time, or none while it is not known."""

    folder: Path
    source: Source
    progress: Callable[[int], None]
    aborted: threading.Event
    backoff: Backoff
    allowance: Allowance | None = None
    wall_s: Callable[[], float | None] = lambda: None

    def fetch(self, sha256: Digest, size_bytes: int) -> tuple[Path, Counted]:
        """Return the file with this digest; raise `TransferError` (``transfer.*``)."""
        if not self.folder.is_dir():
            make_folder(self.folder, parents=True)
            sync_folder(self.folder.parent)
        part = Part(self.folder, sha256, size_bytes)
        if part.has_whole():
            self.progress(size_bytes)
            return part.whole, Counted(resumed=size_bytes)
        download = _Download(self, part)
        return download.run(), download.counted


@dataclass
class _Download:
    """``best``: the largest size so far; an attempt that does not exceed it was no progress.
    ``pieced``: the file is of more than one answer, so its digest may be wrong without any damage
    at the store. ``dripping``: the last answer came so slowly that what it gave is no progress."""

    owner: Downloader
    part: Part
    counted: Counted = field(default_factory=Counted)
    budget: Budget = field(default_factory=Budget)
    best: int = 0
    pieced: bool = False
    dripping: bool = False
    trouble: str = ""

    def run(self) -> Path:
        self._resume()
        while not self._is_done():
            if self.owner.aborted.is_set():
                raise _aborted()
            step, wait_s = self._try()
            if (size := self.part.size) > self.best:
                self.best = size
                if not self.dripping:
                    self.budget.renew()
                    self.owner.backoff.reset()
            if size < self.part.size_bytes:
                self._go_on(Step.RETRY if step in (Step.APPEND, Step.WHOLE) else step, wait_s)
        return self.part.finish()

    def _resume(self) -> None:
        size = self.part.size
        if size > self.part.size_bytes or not self.part.size_bytes:
            self.part.begin(None)
            return
        self.counted.resumed = self.best = size
        self.pieced = size > 0
        self.owner.progress(size)

    def _is_done(self) -> bool:
        if self.part.size < self.part.size_bytes:
            return False
        if self.part.is_right():
            return True
        pieced = self.pieced
        self._discard()
        if not (pieced and self.budget.spend(Step.RESTART)):
            raise _damaged(self.part)
        return False

    def _go_on(self, step: Step, wait_s: float | None) -> None:
        if not self.budget.spend(step):
            raise self._final(step)
        if step is Step.RESTART:
            self._discard()
            return
        if step is Step.RETRY and self.owner.aborted.wait(self.owner.backoff.next_delay_s(wait_s or 0.0)):
            raise _aborted()

    def _discard(self) -> None:
        """Throw away what is there, and take back what was said of it."""
        self.owner.progress(-self.part.size)
        self.part.discard()
        self.counted.resumed = self.best = 0
        self.pieced = False

    def _try(self) -> tuple[Step, float | None]:
        """Ask once and take what comes; return what to do next and how long the server asks to
        wait."""
        self.dripping = False
        have = self.part.size
        self._require(self.part.size_bytes - have)
        try:
            answer = self.owner.source(self._wanted(have), self.owner.aborted)
            before = self.counted.fetched
            try:
                return self._take(answer, have)
            finally:
                answer.close()
                # What came and was not taken was paid for as well.
                self._pay(answer.received - (self.counted.fetched - before))
        except NotYetError as exc:
            self.trouble = f"{exc.message} ({exc.code})"
        except AnswerError as exc:
            self.trouble, self.dripping = str(exc), exc.slow
        return Step.RETRY, None

    def _require(self, count: int) -> None:
        if self.owner.allowance is not None:
            self.owner.allowance.require(count)

    def _pay(self, count: int) -> None:
        if self.owner.allowance is not None:
            self.owner.allowance.spend(count)

    def _wanted(self, have: int) -> Wanted:
        etag = self.part.load_etag() if have else None
        return Wanted(self.part.sha256, self.part.size_bytes, have, etag)

    def _take(self, answer: Response, have: int) -> tuple[Step, float | None]:
        head = answer.head()
        step = decide_step(head.status, head.headers.get("content-range"), have)
        self.trouble = f"the server answers {head.status}"
        if step is Step.FAIL:
            raise _refused(head.status, self.part.sha256)
        if step is Step.APPEND and self._is_of_another(head):
            step = Step.RESTART
        if step is Step.WHOLE and self._is_short(head):
            step = Step.RETRY
        if step in (Step.APPEND, Step.WHOLE):
            self._require(self.part.size_bytes - (have if step is Step.APPEND else 0))
            self._begin(head, step, have)
            self._append(answer)
        headers = head.headers
        return step, parse_retry_after_s(headers.get("retry-after"), headers.get("date"), self.owner.wall_s())

    def _begin(self, head: Head, step: Step, have: int) -> None:
        if step is Step.APPEND and have:
            self.pieced = True
            return
        best = self.best
        if have:
            self._discard()
            self.best = best  # the same bytes once more are no progress
        self.part.begin(head.headers.get("etag"))

    def _is_of_another(self, head: Head) -> bool:
        """Some servers do not look at If-Range."""
        ours, theirs = self.part.load_etag(), head.headers.get("etag")
        return ours is not None and theirs is not None and ours != theirs

    def _is_short(self, head: Head) -> bool:
        """Tell whether a whole file is announced that cannot be the one: ours is worth more."""
        length = head.headers.get("content-length", "")
        if not (length.isascii() and length.isdigit()) or int(length[:18]) >= self.part.size_bytes:
            return False
        self.trouble = f"the server has {length} of {self.part.size_bytes} bytes"
        return True

    def _append(self, answer: Response) -> None:
        with self.part.file.open("ab", buffering=0) as file:
            size = file.tell()
            for content in answer.parts():
                if self.owner.aborted.is_set():
                    raise _aborted()
                size += len(content)
                if size > self.part.size_bytes:
                    self.part.discard()
                    raise _too_long(self.part)
                append(file, self.part.file, content)
                self.counted.fetched += len(content)
                self.counted.over_broker += len(content) if answer.over_broker else 0
                self._pay(len(content))
                self.owner.progress(len(content))

    def _final(self, step: Step) -> TransferError:
        sha256 = self.part.sha256
        if step is Step.RETRY:
            return TransferError(
                f"blob {sha256[:12]} could not be fetched in {RETRIES_MAX} retries: {self.trouble}",
                hint="is the controller or the blob store reachable from the device?",
                code="transfer.retries",
            )
        return TransferError(
            f"the server keeps refusing blob {sha256[:12]}: {self.trouble}",
            hint="the address lives for some minutes only; is the clock of the server right?",
            code="transfer.refused",
        )


def _aborted() -> TransferError:
    return TransferError("the download was ended", code="transfer.aborted")


def _too_long(part: Part) -> TransferError:
    return TransferError(
        f"the server sends more than the {part.size_bytes} bytes that were promised",
        hint="the blob store or a proxy is damaged",
        code="transfer.too_long",
    )


def _damaged(part: Part) -> TransferError:
    return TransferError(
        f"blob {part.sha256[:12]} arrived with other bytes than were released",
        hint="the blob store or the way from it is damaged; the running model was not touched",
        code="transfer.digest",
    )


def _refused(status: int, sha256: Digest) -> TransferError:
    codes = {404: "transfer.not_found", 410: "transfer.gone"}
    return TransferError(
        f"the server answers {status} for blob {sha256[:12]}",
        hint="is the blob still in the store? push the version again",
        code=codes.get(status, "transfer.refused"),
    )

"""Ask the controller, at the broker, for the URL of a blob."""

import threading
from dataclasses import dataclass
from urllib.parse import urljoin
from uuid import uuid4

from fleet_agent.errors import TransferError
from fleet_agent.transfer.questions import Questions
from fleet_shared.messages.fetch import Fetch
from fleet_shared.names import AssignmentId, Digest


@dataclass(frozen=True)
class BlobUrls:
    """``base_url``: what an address without a host is of."""

    base_url: str
    questions: Questions

    def ask(self, assignment: AssignmentId, sha256: Digest, *, aborted: threading.Event) -> str:
        """Return a URL; raise `TransferError` as `Questions.ask` does."""
        question = Fetch(request=uuid4().hex, assignment=assignment, sha256=sha256)
        url = self.questions.ask(question, aborted).chunk.url
        if url is None:
            raise TransferError("the controller gave no URL", code="transfer.refused")
        return urljoin(self.base_url + "/", url)

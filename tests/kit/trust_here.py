"""The trust child's answers without a child: a process for each question takes more time than the answer.

The question and the answer pass through JSON as they do between processes.
"""

import io

import msgspec

from fleet_agent.trust.child import Dialogue, answer
from fleet_agent.trust.framing import write_frame
from fleet_agent.trust.protocol import FileFailed, TrustAnswer, TrustRequest

NO_OTHER_WAY = 20
"""More files than a question needs: for each the supervisor has no other way."""


def ask_here(request: TrustRequest) -> TrustAnswer:
    """Return what `TrustProcess.ask` would."""
    asked: TrustRequest = msgspec.json.decode(msgspec.json.encode(request), type=TrustRequest)
    inward = io.BytesIO()
    for _ in range(NO_OTHER_WAY):
        failed = FileFailed(message="there is no other way to the release repository", retry=True)
        write_frame(inward, msgspec.json.encode(failed))
    inward.seek(0)
    dialogue = Dialogue(inward, io.BytesIO())
    answered: TrustAnswer = msgspec.json.decode(
        msgspec.json.encode(answer(asked, dialogue)), type=TrustAnswer
    )
    return answered

"""The trust child's answers without a child: a process for each question takes more time than the answer.

The question and the answer pass through JSON as they do between processes.
"""

import msgspec

from fleet_agent.trust.__main__ import answer
from fleet_agent.trust.protocol import TrustAnswer, TrustRequest


def ask_here(request: TrustRequest) -> TrustAnswer:
    """Return what `TrustProcess.ask` would."""
    asked: TrustRequest = msgspec.json.decode(msgspec.json.encode(request), type=TrustRequest)
    answered: TrustAnswer = msgspec.json.decode(msgspec.json.encode(answer(asked)), type=TrustAnswer)
    return answered

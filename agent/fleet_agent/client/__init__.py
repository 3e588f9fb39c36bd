"""Ask the agent on this machine for inference, from another application (see docs/inference.md):

    from fleet_agent.client import InferenceClient

    with InferenceClient("unix:/var/lib/fleet-agent/inference.sock") as client:
        outputs = client.infer({"x": array})

Needs numpy and msgspec, and nothing of the agent itself.
"""

from fleet_agent.client.client import InferenceClient
from fleet_agent.client.tensors import Outputs
from fleet_agent.errors import InferenceError

__all__ = ["InferenceClient", "InferenceError", "Outputs"]

"""The real agent, whose workers run models that may be faulty.

``python -m tests.kit.faulty_agent run ...``
"""

from fleet_agent import worker_process
from fleet_agent.cli import main

if __name__ == "__main__":
    worker_process.WORKER_MODULE = "tests.kit.faulty_worker"
    main()

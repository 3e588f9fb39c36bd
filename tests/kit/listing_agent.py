"""The real agent, that writes down at its end which modules it has loaded.

``python -m tests.kit.listing_agent FILE run ...``. A module that is imported late, or is no shared
library, shows up here and nowhere else.
"""

import sys
from pathlib import Path

from fleet_agent.entry import main

if __name__ == "__main__":
    file = Path(sys.argv.pop(1))
    try:
        main()
    finally:
        file.write_text("\n".join(sorted(sys.modules)))

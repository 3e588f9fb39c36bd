"""``python -m fleet_agent``: the command itself."""

from fleet_agent.entry import main

if __name__ == "__main__":
    main()

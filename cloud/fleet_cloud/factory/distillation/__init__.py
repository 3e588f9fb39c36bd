"""Learning from another network: from what it says, and from where it looks."""

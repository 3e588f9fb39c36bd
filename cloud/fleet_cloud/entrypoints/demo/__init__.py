"""The demo: the whole line on one machine, with real processes, and two attacks that fail."""

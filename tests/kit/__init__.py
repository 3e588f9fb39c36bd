"""Real parts and simulators for the tests."""

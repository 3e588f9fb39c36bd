"""Mosquitto as Fleet sets it up and keeps it: configuration, rules, revocation list."""

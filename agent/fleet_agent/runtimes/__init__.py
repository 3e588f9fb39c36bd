"""Interpreters behind one port, one module each. Importing this package loads none of them."""

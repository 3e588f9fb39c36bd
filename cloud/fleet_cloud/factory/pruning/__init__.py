"""Fewer weights: single ones set to zero, or whole filters and neurons taken out."""

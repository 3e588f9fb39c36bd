"""Benchmarks: each prints a table and writes it as JSON under .bench/. Speeds are ratios to
something that runs beside it in the same minute."""

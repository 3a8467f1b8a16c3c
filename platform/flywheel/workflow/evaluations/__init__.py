"""Evaluation sweeps, cases, judges and contamination, on the lake and its engines."""

"""Flywheel: product traffic in, better language models out, again and again."""

__version__ = "0.1.0"

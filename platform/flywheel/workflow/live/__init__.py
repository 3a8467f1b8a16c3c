"""Verdicts on live traffic with everything that this flow can measure with."""

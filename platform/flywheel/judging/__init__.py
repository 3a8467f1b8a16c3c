"""Judges: models that compare or mark answers, what their word is worth, and when it may count."""

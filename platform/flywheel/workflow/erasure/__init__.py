"""Forgetting a person: traced through every store, taken out, and marked in what was made of them."""

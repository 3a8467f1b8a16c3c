"""The search for a filter: batches of proposals on tune labels, then proxy fine-tunes of the best few."""

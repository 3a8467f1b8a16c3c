"""What runs over all stages: one turn, its steps, and the search for the filter's thresholds."""

"""When a measure becomes a target, does it still measure? Pure rules; ``workflow.cadence`` feeds and stores them."""

"""What came of each request, counted for the rollout's guards and told to its controller."""

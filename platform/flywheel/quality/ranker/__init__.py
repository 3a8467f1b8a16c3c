"""What people did with ranked lists becomes a ranker: exposures, shares of looks, a head an action."""

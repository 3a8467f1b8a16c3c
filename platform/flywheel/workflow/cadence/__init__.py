"""When a turn is due, what the live model's drift says, and upkeep between turns."""

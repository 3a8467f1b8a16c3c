"""The Goodhart monitor over a lake: what a turn's period looks like, tested once, and who settled an alarm."""

"""Pure statistics: numpy arrays in, estimates out, seeds explicit."""

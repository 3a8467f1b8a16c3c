"""Human labels: how they are split, stored, drawn from traffic, and typed in at a terminal."""

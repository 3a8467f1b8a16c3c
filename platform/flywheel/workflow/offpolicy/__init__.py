"""Off-policy evaluation of what the gateway logged: rows of the lake become arrays, arrays become a report."""

"""Which model answers: the routing truth, shadow comparison, the gate, promotion and rollback."""

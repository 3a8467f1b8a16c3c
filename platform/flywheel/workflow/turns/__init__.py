"""One turn: its steps from a snapshot of the tables to a verdict, and what a person sees and says of it."""

"""Networks that measure rows: one kind a file, each loaded once an actor. Nothing heavy is imported here."""

"""The gate's report: gathered from the lake as plain values, and drawn as one page that needs nothing else."""

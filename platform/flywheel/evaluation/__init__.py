"""Is the candidate better? Suites of cases, checks, runs with per-item results, and paired comparison."""

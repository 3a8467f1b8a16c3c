"""Which of several answers, and which order of a list, a user gets: rankers score, a policy draws, chances are kept."""

"""What live traffic says about a candidate's quality: pairs of a shadow, reactions of a canary's users."""

"""The engagement loop on ranked lists: train a ranker, put it in the shadow, judge it off-policy, promote it."""

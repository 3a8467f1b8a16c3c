"""The shadow: copies of live requests at candidate engines, bounded in every way, unseen by users."""

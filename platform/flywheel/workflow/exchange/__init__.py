"""What leaves for other tools and comes back: exports, labels."""

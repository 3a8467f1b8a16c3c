"""Looking at what curation did, and changing the filter it does it with."""

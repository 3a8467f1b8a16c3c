"""Pure text rules: normal forms, hashes, near-duplicates, personal data and its surrogates."""

"""Engines: checking model folders, starting and stopping vLLM engines on Ray Serve, generating through them."""

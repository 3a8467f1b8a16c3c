"""The OpenAI protocol as this gateway speaks it: request and answer shapes, each written once."""

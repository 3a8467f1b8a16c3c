"""The HTTP service: answers with the live model, records durably, mirrors to shadows, takes feedback."""

"""HTTP as this gateway speaks it: bodies within limits, answers and errors in OpenAI's shape, the document."""

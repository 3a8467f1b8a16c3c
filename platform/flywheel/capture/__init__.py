"""From the gateway's durable log to the lake: consent, anonymisation, shipping, ingestion, import."""

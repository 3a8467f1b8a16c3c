"""The lake: Delta tables, objects written once, manifests with parents, and keys; a folder or ``s3://`` alike."""

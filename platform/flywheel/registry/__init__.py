"""Model versions: their files and manifests in the lake, and MLflow as the place to look at runs and aliases."""

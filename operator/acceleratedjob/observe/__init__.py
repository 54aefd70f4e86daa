"""The observed state of a job, extracted from the manifests of its pods; pure."""

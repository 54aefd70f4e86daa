"""Manifests of the objects that are created for a job; pure."""

"""A cluster behind an API server.

Manifests are decoded JSON. The model classes of the Python client would multiply the CPU time for
the creation of a pod, and the planner does not need them.
"""

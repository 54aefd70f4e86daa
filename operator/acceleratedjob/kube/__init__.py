"""A cluster behind an API server.

Manifests are JSON throughout. The models of the Python client would multiply the CPU time of a
pod's creation, and offer nothing that the planner needs.
"""

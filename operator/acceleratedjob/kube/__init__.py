"""A cluster behind an API server: the only importer of `kubernetes`.

Manifests stay JSON from end to end. The client's models would cost several times the CPU of a
pod's creation and tell nothing that the planner needs.
"""

"""Collectives on nested data: gather, reduce, broadcast, pad across processes."""

"""Reads files that may come from anyone: nothing in them is executed."""

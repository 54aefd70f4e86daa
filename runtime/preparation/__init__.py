"""Preparing a script's objects, and the objects that are prepared."""

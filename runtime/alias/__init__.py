"""Lets scripts and libraries that import `accelerate` get this library."""

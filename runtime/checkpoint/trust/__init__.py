"""Loads files from untrusted sources without executing code from them."""

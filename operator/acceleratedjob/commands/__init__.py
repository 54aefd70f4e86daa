"""The commands for people: `run`, `submit`, `status`, `why` and others; `cli` parses options."""

"""The API of AcceleratedJob: names, spec and status, with their parsers; pure."""

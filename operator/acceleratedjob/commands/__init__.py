"""The commands for people: `run`, `render`, `why`, `status`, `logs`, `stop`, `dump` and others."""

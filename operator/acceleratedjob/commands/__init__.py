"""The commands of the program: `run`, `render`, `why`, `status`, `logs`."""

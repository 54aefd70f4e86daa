"""The exit codes of the program; users find them in `--help` and in docs/operations.md."""

EXIT_FAILED = 1  # the job has
EXIT_HELD_UP = 1  # an operator that was asked to end, and could not in time
EXIT_USAGE = 2
EXIT_NOT_FOUND = 3
EXIT_LEASE_LOST = 3
EXIT_UNAVAILABLE = 4  # the cluster cannot be reached, or refuses
EXIT_INTERRUPTED = 128 + 2  # as a shell tells of a process that SIGINT has ended

"""The exit codes of the program; users find them in `--help` and in docs/operations.md."""

EXIT_FAILED = 1  # the job has failed
EXIT_HELD_UP = 1  # the operator did not shut down in time
EXIT_USAGE = 2
EXIT_NOT_FOUND = 3
EXIT_LEASE_LOST = 3
EXIT_UNAVAILABLE = 4  # the cluster cannot be reached, or rejects the request
EXIT_TIMEOUT = 5  # what was waited for did not happen in time
EXIT_INTERRUPTED = 128 + 2  # a shell's exit code for a process that SIGINT terminated

"""Commands that ask a cluster about jobs: `why`, `status`, `logs`."""

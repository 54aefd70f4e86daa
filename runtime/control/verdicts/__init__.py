"""Pure judges of a job's ranks: which one hangs, which is slow, and whose state differs."""

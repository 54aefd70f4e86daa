"""How all ranks of a job stop, or save, at the same place; pure: see docs/agreement.md."""

"""What a table does not say: written by hand, and shown below it once the run is measured."""

NOTES: dict[tuple[str, str], str] = {}  # (system, fault) -> a few sentences

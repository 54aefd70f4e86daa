"""What a table does not say: written by hand, and shown below it once the run is measured."""

NOTES: dict[tuple[str, str], str] = {  # (system, fault) -> a few sentences
    ("ours", "kill-1"): (
        "the training went on in its pods, from its newest checkpoint, which was that of step 2. "
        "Why the default cadence wrote no other one in the 70 s until the fault was not examined."
    ),
    ("indexed", "kill-1"): (
        "torchrun restarted the ranks in their pods, from the script's checkpoint of step 50; the "
        "Job had nothing to do. The same is true of JobSet."
    ),
    ("indexed", "delete-1"): (
        "the ranks went on from the checkpoint of step 50, not from one of the stop. Why the "
        "script did not save on SIGTERM was not examined."
    ),
}

"""What a table does not say: written by hand, and shown below it once the run is measured."""

_NOT_SAVED = (
    "the ranks went on from the checkpoint of step 250, not from one of the stop: torchrun ends "
    "its timer before it asks the ranks to stop, and the script failed when it used the timer "
    "next. It goes on without the timer now, and saves; this row was measured before."
)
NOTES: dict[tuple[str, str], str] = {  # (system, fault) -> a few sentences
    ("ours", "kill-1"): "the training went on in its pods, with processes from the reserve.",
    ("indexed", "kill-1"): (
        "torchrun restarted the ranks in their pods, from the script's checkpoint of step 250; the "
        "Job had nothing to do. The same is true of JobSet."
    ),
    ("ours", "delete-1"): "all ranks saved, and the operator replaced both pods.",
    ("indexed", "delete-1"): _NOT_SAVED,
    ("jobset", "delete-1"): _NOT_SAVED,
}

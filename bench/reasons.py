"""Why a goal is not reached: written by hand, shown on the page where a line's goal is missed."""

REASONS = {  # a case's name -> one or two sentences
    "resume-stream-read": "Who may only go through a stream has to: every rank passes by what is "
    "not its own. A dataset with `iter_from` or a `state_dict` is not gone through.",
}

"""Why a goal is not reached: written by hand, shown on the page where it is missed."""

REASONS: dict[str, str] = {}  # a goal's name -> one or two sentences

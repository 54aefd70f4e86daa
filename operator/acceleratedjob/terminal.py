"""How text of others is shown on a terminal, so that it is text and nothing that is obeyed.

The rule of all commands, and kubectl's for its tables: whatever a manifest, a status or a message
says is shown with its control characters replaced. Only a training's own output is shown as it is
(`acceleratedjob run` and `logs`), as `kubectl logs` does.
"""


def plain(text: str) -> str:
    r"""A text whose control characters cannot do anything to a terminal; line breaks stay.

    >>> plain("a\x1b[2Jb\tc")
    'a?[2Jb  c'
    """
    known = text.expandtabs(4)
    return "".join(one if one.isprintable() or one == "\n" else "?" for one in known)


def lines(text: str, mark: str) -> list[str]:
    r"""The lines of a text, those after the first with a mark: none passes for a line of ours.

    >>> lines("broken\n-- Succeeded", "    | ")
    ['broken', '    | -- Succeeded']
    """
    first, *more = plain(text).splitlines() or [""]
    return [first, *(f"{mark}{one}" for one in more)]

"""`acceleratedjob validate`: checks manifests without a cluster."""

from collections.abc import Iterable

from acceleratedjob.commands.source import Documents, Source, ignored
from acceleratedjob.errors import InvalidManifest
from acceleratedjob.exits import EXIT_USAGE
from acceleratedjob.terminal import complain, lines, say


def validate(places: Iterable[str]) -> int:
    """Check manifests, print what is wrong with each, and return the exit code.

    Args:
        places: the paths of YAML files; `-` is the standard input.
    """
    return max(_validated(Source(place)) for place in places)


def _validated(source: Source) -> int:
    try:
        documents = source.read()
    except InvalidManifest as error:
        for fault in error.faults:
            for line in lines(fault, "  | "):
                complain(line)
        return EXIT_USAGE
    say(*(f"{source.name}: {sentence}" for sentence in _found(documents)))
    return 0


def _found(documents: Documents) -> Iterable[str]:
    for spec in documents.specs:
        yield f"AcceleratedJob {spec.name} is valid"
    yield from ignored(documents)

"""The test bed by hand: keep one up during development, end it, bring images to its node.

Also how the fixtures start the supervisors (`serve-...`), which are processes of their own so that
a bed may be shared, and so that its end does not depend on how a test process ends.
"""

import argparse
import sys
from pathlib import Path

from tests.cluster.testbed import beds, controlplane, node
from tests.cluster.testbed.places import Place


def main(arguments: list[str]) -> int:
    """Run one command."""
    options = _parser().parse_args(arguments)
    place = Place(options.name)
    match options.command:
        case "up":
            beds.prepare(report=_report)
            beds.keep_up(place, fake_nodes=options.kwok, with_node=options.node)
            sys.stdout.write(beds.exports(place))
        case "down":
            beds.bring_down(place)
        case "env":
            sys.stdout.write(beds.exports(place))
        case "import":
            node.import_image(place.node, options.archive)
        case "serve-control-plane":
            controlplane.serve(place, fake_nodes=options.kwok, watch_cache=options.watch_cache)
        case "serve-node":
            node.serve(controlplane.ControlPlane(place))
    return 0


def _report(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.testbed", description=__doc__)
    parser.add_argument("--name", default="dev", help="which test bed (default: %(default)s)")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start a test bed, and print what to export")
    up.add_argument("--node", action="store_true", help="with a real node (root, Linux)")
    serve = commands.add_parser("serve-control-plane", help="be its supervisor")
    for command in (up, serve):
        command.add_argument("--kwok", type=int, default=0, help="fake nodes (default: 0)")
    serve.add_argument("--no-watch-cache", dest="watch_cache", action="store_false")
    commands.add_parser("serve-node", help="be the supervisor of its node")
    commands.add_parser("down", help="end the test bed")
    commands.add_parser("env", help="print what to export for a test bed that is up")
    archive = commands.add_parser("import", help="bring an image to the node")
    archive.add_argument("archive", type=Path, help="as docker save or buildah push write it")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

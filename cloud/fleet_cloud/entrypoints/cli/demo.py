"""``fleet demo``: the whole line on this machine, in a minute."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from fleet_cloud.entrypoints.cli.output import print_json

if TYPE_CHECKING:
    from fleet_cloud.entrypoints.demo.report import DemoReport


def demo(
    devices: Annotated[int, typer.Option(help="How many devices.", min=1, max=20)] = 3,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running and print the addresses.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Train, push to real agents, watch telemetry, and see two attacks fail."""
    from fleet_cloud.entrypoints.cli.build_display import PlainDisplay
    from fleet_cloud.entrypoints.demo.story import Story

    def tell(line: str) -> None:
        print(line, file=sys.stderr if as_json else sys.stdout, flush=True)

    def hand_out(report: "DemoReport") -> None:
        if as_json:
            print_json(report)
        else:
            tell(f"done: build {report.seconds.build} s, push {report.seconds.push} s")

    with PlainDisplay() as display:
        Story(devices, keep, tell, display.show, hand_out).run()

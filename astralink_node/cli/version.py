"""`version`: what runs here, for bug reports and scripts."""

import json
import platform
from importlib.metadata import version as distribution_version

import click

from astralink_node import __version__
from astralink_node.cli.options import json_option

_NAMED_LIBRARIES = ("py-evm", "plyvel", "trio", "coincurve", "py-arkworks-bls12381")


@click.command()
@json_option()
def version(as_json: bool) -> None:
    """Show the version of this program, of Python, and of the libraries that matter in a bug report."""
    libraries = {name: distribution_version(name) for name in _NAMED_LIBRARIES}
    python = f"{platform.python_implementation()} {platform.python_version()}"
    system = f"{platform.system()} {platform.machine()}"
    if as_json:
        shown = {"version": __version__, "python": python, "system": system, "libraries": libraries}
        click.echo(json.dumps(shown, indent=2))
        return
    click.echo(f"astralink-node {__version__}")
    click.echo(f"{python} on {system}")
    click.echo(", ".join(f"{name} {number}" for name, number in libraries.items()))

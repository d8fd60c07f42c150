"""``rankzero view``: look at runs in the browser while they train."""

from __future__ import annotations

import getpass
import os
import socket
from contextlib import suppress
from typing import Annotated

import typer

from rankzero.cli import terminal
from rankzero.cli.arguments import Directory, directory_or_run

_PORT = 8265


def view(
    directory: Directory = None,
    port: Annotated[int, typer.Option(min=0, max=65000, help="The port; if it is taken, the next free one.")] = _PORT,
    open: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Look at runs in the browser while they train: the page of rankzero page, live.

    Only this machine is served, and only who knows the token in the address. Ctrl-C ends it.

    Example: rankzero view rankzero-runs --open
    """
    import importlib.util
    import secrets

    from rankzero.errors import PluginNotInstalledError

    if not all(importlib.util.find_spec(name) for name in ("starlette", "uvicorn")):
        raise PluginNotInstalledError('rankzero view needs a web server: pip install "rankzero[view]"')
    from rankzero.reader.view.server import HOST, bind, serve

    found = directory_or_run(directory).resolve()
    token = secrets.token_urlsafe(24)
    listening = bind(port)
    number = listening.getsockname()[1]
    address = f"http://{HOST}:{number}/{token}/"
    terminal.say(f"runs in {found}: {address}")
    if os.environ.get("SSH_CONNECTION"):
        tunnel = f"ssh -N -L {number}:{HOST}:{number} {getpass.getuser()}@{socket.gethostname()}"
        terminal.say(f"on your own machine, run this first: {tunnel}")
    if open:
        import webbrowser

        webbrowser.open(address)
    with suppress(KeyboardInterrupt):
        terminal.say("Ctrl-C ends it")
        serve(found, token, listening)

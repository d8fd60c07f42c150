"""Writes the reference of the command line: python tests/docs/cli_reference.py > docs/reference/cli.md"""

import inspect
from typing import Any

from typer.main import get_command

from rankzero.cli.app import app


def render() -> str:
    program: Any = get_command(app)
    parts = [
        "# Command line\n",
        inspect.cleandoc(program.help) + "\n",
        "A run is given by its directory, its id or its name.\n",
    ]
    for name, command in program.commands.items():
        parts.append(render_command(name, command))
    return "\n".join(parts)


def render_command(name: str, command: Any) -> str:
    description, _, rest = inspect.cleandoc(command.help).partition("Example:")
    example, _, after = rest.partition("\n")
    lines = [f"## rankzero {name}\n", description.strip() + "\n", f"```console\n{example.strip()}\n```\n"]
    lines += [after.strip() + "\n"] if after.strip() else []
    rows = [render_parameter(each) for each in command.params if "--help" not in each.opts]
    return "\n".join([*lines, "| parameter | default | meaning |\n|---|---|---|", *rows, ""])


def render_parameter(parameter: Any) -> str:
    names = ", ".join(f"`{each}`" for each in parameter.opts)
    if parameter.param_type_name == "argument":
        names = f"`{(parameter.metavar or parameter.name).upper()}`"
    shown = parameter.default if parameter.default not in (None, False, (), []) and not parameter.required else ""
    return f"| {names} | {f'`{shown}`' if shown and not callable(shown) else ''} | {parameter.help or ''} |"


if __name__ == "__main__":
    print(render(), end="")

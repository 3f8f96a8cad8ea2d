"""Entry point of the command line: the commands and their exit codes.

Each command loads the settings and calls the part that does the work. An error is one line on standard error; the exit
code is 1 when the command failed and 2 when it was used incorrectly.
"""

import sys
from typing import Annotated, cast

import typer

from penstock import __version__
from penstock.cli.check_config import check_config
from penstock.cli.classify import classify
from penstock.cli.options import FAILURE, USAGE_ERROR, print_error
from penstock.cli.reload import reload
from penstock.cli.route import route
from penstock.cli.serve import demo, serve
from penstock.cli.simulate import simulate
from penstock.cli.vllm_args import print_vllm_args

app = typer.Typer(
    name="penstock",
    help="A gateway in front of your model servers: it finds them, routes requests, fails over, and speaks the API of "
    "every client.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve")(serve)
app.command("demo")(demo)
app.command("check-config")(check_config)
app.command("reload")(reload)
app.command("vllm-args")(print_vllm_args)
app.command("route")(route)
app.command("classify")(classify)
app.command("sim")(simulate)

_UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])
"""Base class of all errors about command-line arguments; typer does not export it."""


def main() -> None:
    """Run the command that the command line names, and exit."""
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: list[str]) -> int:
    """Run one command; return the exit code."""
    try:
        result = app(args=arguments, prog_name="penstock", standalone_mode=False)
    except _UsageError as error:
        if not arguments:
            sys.stdout.write(error.format_message() + "\n")
            return USAGE_ERROR
        command = error.ctx.command_path if error.ctx else "penstock"
        message = " ".join(error.format_message().split())
        message = message if message.endswith("?") else f"{message.rstrip('.')}."
        print_error(f"{command}: {message} See {command} --help.")
        return USAGE_ERROR
    except typer.Abort:
        print_error("penstock: Stopped.")
        return FAILURE
    return result if isinstance(result, int) else 0


def _print_version(requested: bool) -> None:
    if requested:
        sys.stdout.write(f"penstock {__version__}\n")
        raise typer.Exit


@app.callback()
def _add_global_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass

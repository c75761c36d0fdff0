"""The command line app, its error messages and exit codes."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from slic import __version__
from slic.commands.cache import cache_app
from slic.commands.classify import eval_classify_command
from slic.commands.demo import demo_command
from slic.commands.doctor import doctor_command
from slic.commands.plan import plan_command
from slic.commands.prep import prep_app
from slic.commands.report import report_command
from slic.commands.reproduce import reproduce_command
from slic.commands.retrieve import eval_retrieve_command
from slic.commands.search import search_command
from slic.commands.train import train_command
from slic.errors import SlicError
from slic.runtime.console import say
from slic.runtime.disk import to_disk_error
from slic.runtime.signals import exit_code_of_stop, stop_on_signals

app = typer.Typer(
    name="slic",
    help="Learn video representations without labels: prepare videos, pretrain, evaluate.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
eval_app = typer.Typer(help="Evaluate a run by retrieval or classification.", no_args_is_help=True)
app.add_typer(prep_app, name="prep")
app.add_typer(eval_app, name="eval")
app.add_typer(cache_app, name="cache")

INTERRUPTED = 130


def _version(requested: bool) -> None:
    if requested:
        print(f"slic {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Learn video representations without labels: prepare videos, pretrain, evaluate."""


app.command("train")(train_command)
app.command("report")(report_command)
app.command("search")(search_command)
app.command("reproduce")(reproduce_command)
app.command("doctor")(doctor_command)
app.command("plan")(plan_command)
app.command("demo")(demo_command)
eval_app.command("retrieve")(eval_retrieve_command)
eval_app.command("classify")(eval_classify_command)


def _say_stopped() -> None:
    without = " without --overwrite" if "--overwrite" in sys.argv else ""
    say(f"slic: stopped; run the same command{without} again to continue")


def main() -> None:
    """Run the command line; an error is one line on stderr, and the exit code tells its kind."""
    stop_on_signals()
    try:
        code = app(prog_name="slic", standalone_mode=False)
        # Typer returns this code after Ctrl-C, without a message.
        if code == INTERRUPTED:
            _say_stopped()
            code = exit_code_of_stop()
        sys.exit(code)
    except KeyboardInterrupt:
        _say_stopped()
        sys.exit(exit_code_of_stop())
    except TyperException as error:
        # Without arguments Typer has printed the help, and there is no message.
        if message := error.format_message():
            say(f"slic: {message}")
        sys.exit(error.exit_code)
    except SlicError as error:
        say(f"slic: {error}")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of stdout (head, less) has finished, which is not an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        where = Path(os.fsdecode(error.filename)) if error.filename else None
        say(f"slic: {to_disk_error(where, error)}")
        sys.exit(1)


if __name__ == "__main__":
    main()

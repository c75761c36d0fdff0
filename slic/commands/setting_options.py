"""Options of a command that are generated from the fields of a settings class."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import Field
from typing import Annotated, Any, NamedTuple

import typer

from slic.config import Panel, Settings, Switch, in_panels


class _Generated(NamedTuple):
    """A parameter of a command, the setting that it changes, and to which value if it is a flag."""

    parameter: inspect.Parameter
    setting: str
    value: Any = None


def with_setting_options(kind: type[Settings]) -> Callable[[Callable[..., None]], Any]:
    """Decorate a command: its `**settings` become the options and switches of a settings class.

    The command receives `{setting: value}` for those that were given on the command line. An
    option that needs another form than its setting is a parameter of the command's own.

    Args:
        kind: the class; its fields name the options, their types, ranges, help and panels.
    """
    declared = [each for panel in in_panels(kind).values() for each in panel]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command)
        every = [option for each in declared for option in _options(each)]
        generated = [each for each in every if each.parameter.name not in signature.parameters]

        def run(**arguments: Any) -> None:
            settings = {}
            for parameter, setting, value in generated:
                given = arguments.pop(parameter.name)
                if given is not None and given is not False:
                    settings[setting] = given if value is None else value
            command(**arguments, **settings)

        own = [
            parameter.replace(kind=parameter.KEYWORD_ONLY)
            for parameter in signature.parameters.values()
            if parameter.kind is not parameter.VAR_KEYWORD
        ]
        # First, as panels stand in --help in the order of their first option.
        parameters = [*(option.parameter for option in generated), *own]
        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__doc__ = command.__doc__
        return run

    return decorate


def _options(declared: Field[Any]) -> Iterator[_Generated]:
    if declared.metadata["option"]:
        yield _Generated(_option(declared), declared.name)
    if switch := declared.metadata["switch"]:
        yield _Generated(_flag(declared, switch), declared.name, switch.value)


def _option(declared: Field[Any]) -> inspect.Parameter:
    about = declared.metadata
    option = typer.Option(
        f"--{declared.name.replace('_', '-')}",
        help=about["help"],
        min=about["at_least"],
        max=about["at_most"],
        show_default=False,
        rich_help_panel=panel_title(declared.metadata["panel"]),
    )
    return _parameter(declared.name, declared.type | None, option, None)  # type: ignore[operator]


def _flag(declared: Field[Any], switch: Switch) -> inspect.Parameter:
    option = typer.Option(
        switch.name,
        help=switch.help,
        show_default=False,
        rich_help_panel=panel_title(declared.metadata["panel"]),
    )
    return _parameter(switch.name, bool, option, False)


def panel_title(name: Panel) -> str:
    """Return the heading in `--help` of a panel of settings."""
    return f"Settings: {name.lower()}"


def _parameter(name: str, kind: Any, option: Any, default: Any) -> inspect.Parameter:
    name = name.removeprefix("--").replace("-", "_")
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
    )

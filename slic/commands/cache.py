"""`slic cache`: its options, and what it prints."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.filesize import decimal as format_bytes

from slic.commands.completion import complete_store_or_run
from slic.commands.export import cache_export_command
from slic.commands.options import Json, Workers
from slic.runtime.console import console, new_table, plain, say, show
from slic.runtime.progress import format_duration
from slic.runtime.text import counted

if TYPE_CHECKING:
    from slic.upkeep.verify.report import Fault

cache_app = typer.Typer(
    help="Check and repair stores and runs; list, export and clean what they cache.",
    no_args_is_help=True,
)
_COUNTED = {
    "videos": "video",
    "checkpoints": "checkpoint",
    "metrics": "metrics line",
    "embeddings": "embedding cache",
}


@cache_app.command("verify")
def cache_verify_command(
    what: Annotated[
        str,
        typer.Argument(
            metavar="STORE|RUN",
            help="A store, or a run (below runs/, or a path).",
            autocompletion=complete_store_or_run,
        ),
    ],
    repair: Annotated[
        bool, typer.Option("--repair", help="Drop what is broken, so that it is made again.")
    ] = False,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Check all of a store or run: checksums, shapes, index, leftovers."""
    from slic.upkeep.verify.targets import verify

    report = verify(what, repair=repair, workers=workers)
    for fault in report.faults:
        say(f"{fault.where}: {fault.what}")
        if fault.repair:
            say(f"  {_outcome(fault, repair=repair)}: {fault.repair}")
    for note in report.notes:
        say(note)
    checked = report.checked
    counts = [counted(checked[name], one) for name, one in _COUNTED.items() if name in checked]
    counts += [format_bytes(checked["bytes"])] if "bytes" in checked else []
    rows = {
        report.kind: report.path,
        "checked": f"{', '.join(counts)} in {format_duration(report.seconds)}",
        "faults": f"{len(report.faults)}" + f", {report.repaired} repaired" * repair,
    }
    show(report.json(), as_json=as_json, rows=rows)
    if not report.sound:
        raise typer.Exit(1)


def _outcome(fault: "Fault", *, repair: bool) -> str:
    if not repair:
        return "--repair"
    return "done" if fault.repaired else f"not done ({fault.hindrance})"


@cache_app.command("list")
def cache_list_command(
    folder: Annotated[
        str | None, typer.Argument(metavar="FOLDER", help="Where.", show_default="here")
    ] = None,
    as_json: Json = False,
) -> None:
    """The stores and runs here, and the embeddings that runs have cached."""
    from slic.upkeep.verify.caches import list_caches
    from slic.upkeep.verify.targets import targets_here

    found = list_caches(targets_here(_folder(folder)))
    if not as_json:
        _show_stores(found)
        for run in found["runs"]:
            _show_run(run, [cache for cache in found["caches"] if cache["run"] == run["path"]])
    outdated = found["outdated_bytes"]
    rows = {
        "found": f"{counted(len(found['stores']), 'store')}, {counted(len(found['runs']), 'run')}",
        "caches": f"{len(found['caches'])}, {format_bytes(found['bytes'])}"
        + f", of which {format_bytes(outdated)} outdated (`slic cache clean`)" * bool(outdated),
    }
    show(found, as_json=as_json, rows=rows)


cache_app.command("export")(cache_export_command)


@cache_app.command("clean")
def cache_clean_command(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[STORE|RUN]...",
            help="What to clean.",
            show_default="all here",
            autocompletion=complete_store_or_run,
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it, rather than show it.")] = False,
    as_json: Json = False,
) -> None:
    """Remove outdated embedding caches and leftovers; without --yes, only show them.

    Checkpoints, stores and current caches stay.
    """
    from slic.upkeep.verify.caches import clean, what_may_go
    from slic.upkeep.verify.targets import find_target, targets_here

    targets = [find_target(name) for name in what] if what else targets_here(Path())
    leaving = what_may_go(targets)
    gone = clean(leaving) if yes else []
    if not as_json:
        table = new_table("", "bytes", "why")
        for item in leaving:
            table.add_row(plain(item.path), f"{item.bytes:,}", item.why)
        if leaving:
            console().print(table)
    total, freed = (sum(item.bytes for item in items) for items in (leaving, gone))
    result = {
        "files": [{"path": i.path, "why": i.why, "bytes": i.bytes} for i in leaving],
        "bytes": total,
        "removed": len(gone),
    }
    rows = {"removed": f"{counted(len(gone), 'file')}, {format_bytes(freed)}"}
    if not yes:
        removes = "; --yes removes" * bool(leaving)
        rows = {"would go": f"{counted(len(leaving), 'file')}, {format_bytes(total)}{removes}"}
    show(result, as_json=as_json, rows=rows)


def _folder(folder: str | None) -> Path:
    from slic.errors import InputError

    path = Path(folder or ".")
    if not path.is_dir():
        raise InputError(f"{folder}: no such folder")
    return path


def _show_stores(found: dict[str, Any]) -> None:
    for store in found["stores"]:
        if "problem" in store:
            say(store["problem"])
        else:
            videos = counted(store["videos"], "video")
            console().print(plain(f"{store['path']}: {videos}, {format_bytes(store['bytes'])}"))


def _show_run(run: dict[str, Any], caches: list[dict[str, Any]]) -> None:
    if "problem" in run:
        say(run["problem"])
    console().print(plain(f"{run['path']}: {run['checkpoint'] or 'no checkpoint'}"))
    if not caches:
        return
    table = new_table("  store", "checkpoint", "protocol", "videos", "size", "state")
    for cache in caches:
        part = " train" * cache["training"]
        row = (cache["store"], cache["checkpoint"], cache["protocol"] + part)
        cells = (
            *row,
            f"{cache['videos']:,}",
            format_bytes(cache["bytes"] + cache["index_bytes"]),
            cache["state"],
        )
        table.add_row(*map(plain, (f"  {cells[0]}", *cells[1:])))
    console().print(table)

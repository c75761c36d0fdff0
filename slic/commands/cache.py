"""`slic cache`: check, repair, list and clean what other commands have written."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.filesize import decimal as format_bytes

from slic.commands.completion import complete_store_or_run
from slic.commands.export import cache_export_command
from slic.commands.options import Json, Workers, option
from slic.runtime.console import console, new_table, plain, say, show
from slic.runtime.progress import format_duration
from slic.runtime.text import counted

cache_app = typer.Typer(
    help="Check and repair stores and runs; list, export and clean their caches.",
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
            help="Path of a store or run, or the name of a run in runs/.",
            autocompletion=complete_store_or_run,
        ),
    ],
    repair: Annotated[
        bool,
        option("--repair", "Repair damaged entries, or remove them so that they can be recreated."),
    ] = False,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Check a store or run completely: checksums, shapes, index and leftover files."""
    from slic.upkeep.verify.targets import verify

    report = verify(what, repair=repair, workers=workers)
    for fault in report.faults:
        say(f"{fault.where}: {fault.what}")
        if fault.repair:
            outcome = "done" if fault.repaired else f"not done ({fault.error})"
            say(f"  {outcome if repair else '--repair'}: {fault.repair}")
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


@cache_app.command("list")
def cache_list_command(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="Folder that contains the stores and the folder runs/.",
            show_default="this folder",
        ),
    ] = Path(),
    as_json: Json = False,
) -> None:
    """List the stores and runs in a folder, and the embeddings that each run has cached."""
    from slic.errors import InputError
    from slic.upkeep.verify.caches import list_caches
    from slic.upkeep.verify.targets import targets_in

    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    found = list_caches(targets_in(folder))
    if not as_json:
        _print_lists(found)
    outdated = found["outdated_bytes"]
    rows = {
        "found": f"{counted(len(found['stores']), 'store')}, {counted(len(found['runs']), 'run')}",
        "caches": f"{len(found['caches'])}, {format_bytes(found['bytes'])}"
        + f", of which {format_bytes(outdated)} outdated (`slic cache clean`)" * bool(outdated),
    }
    show(found, as_json=as_json, rows=rows)


def _print_lists(found: dict[str, Any]) -> None:
    for item in (*found["stores"], *found["runs"]):
        if "problem" in item:
            say(item["problem"])
    for store in found["stores"]:
        if "problem" not in store:
            about = f"{counted(store['videos'], 'video')}, {format_bytes(store['bytes'])}"
            console().print(plain(f"{store['path']}: {about}"))
    for run in found["runs"]:
        console().print(plain(f"{run['path']}: {run['checkpoint'] or 'no checkpoint'}"))
        table = new_table("  store", "checkpoint", "protocol", "videos", "size", "state")
        for cache in [cache for cache in found["caches"] if cache["run"] == run["path"]]:
            size = format_bytes(cache["bytes"] + cache["index_bytes"])
            protocol = cache["protocol"] + " train" * cache["training"]
            numbers = (f"{cache['videos']:,}", size, cache["state"])
            row = (f"  {cache['store']}", cache["checkpoint"], protocol, *numbers)
            table.add_row(*map(plain, row))
        if table.row_count:
            console().print(table)


cache_app.command("export")(cache_export_command)


@cache_app.command("clean")
def cache_clean_command(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[STORE|RUN]...",
            help="Stores and runs to clean.",
            show_default="all in this folder",
            autocompletion=complete_store_or_run,
        ),
    ] = None,
    yes: Annotated[bool, option("--yes", "Remove the files, not only list them.")] = False,
    as_json: Json = False,
) -> None:
    """Remove outdated embedding caches and incomplete files; without --yes, only list them.

    Checkpoints, stores and current caches are never removed.
    """
    from slic.cache.writers import remove
    from slic.upkeep.verify.caches import find_removable
    from slic.upkeep.verify.targets import find_target, targets_in

    files = find_removable([find_target(name) for name in what] if what else targets_in(Path()))
    if yes:
        for file in files:
            remove(file.path)
    if files and not as_json:
        table = new_table("", "bytes", "why")
        for file in files:
            table.add_row(plain(file.path), f"{file.bytes:,}", file.why)
        console().print(table)
    total = sum(file.bytes for file in files)
    result = {
        "files": [{"path": str(f.path), "why": f.why, "bytes": f.bytes} for f in files],
        "bytes": total,
        "removed": len(files) if yes else 0,
    }
    heading = "removed" if yes else "to remove"
    advice = "; give --yes to remove them" * bool(files and not yes)
    rows = {heading: f"{counted(len(files), 'file')}, {format_bytes(total)}{advice}"}
    show(result, as_json=as_json, rows=rows)

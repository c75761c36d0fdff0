"""`slic doctor`: options and output."""

from typing import Any

import typer
from rich.filesize import decimal as format_bytes

from slic.commands.options import Json
from slic.runtime.console import console, plain, show
from slic.runtime.progress import format_duration


def doctor_command(as_json: Json = False) -> None:
    """Check this installation and machine, and suggest how to fix what does not work.

    The exit code is 1 if something that slic needs does not work.
    """
    from slic.upkeep.doctor import doctor

    result = doctor()
    show(result, as_json=as_json, rows=_rows(result))
    if not as_json:
        for problem in result["problems"]:
            kind = "broken" if problem["needed"] else "note"
            console().print(plain(f"{kind}: {problem['what']}: {problem['todo']}"))
    if not result["ok"]:
        raise typer.Exit(1)


def _rows(result: dict[str, Any]) -> dict[str, str]:
    training, flow, trials = result["training"], result["flow"], result["trials"]
    decoding, shift = trials["decoding"], trials["flow"]
    broken = sum(problem["needed"] for problem in result["problems"])
    notes = len(result["problems"]) - broken
    works = f"{broken} broken" if broken else "everything that slic needs works"
    return {
        "slic": f"{result['slic']}, Python {result['python']}, {result['platform']}",
        "packages": ", ".join(f"{name} {v or '-'}" for name, v in result["packages"].items()),
        "GPUs": _gpus(result),
        "training": "{device}, {precision}, preset {preset}".format(**training)
        if training
        else "does not work",
        "flow": "engine {engine} on {device}".format(**flow) if flow else "does not work",
        "neighbours": result["neighbours"] or "does not work",
        **_machine(result["machine"]),
        "decoding": f"{decoding['frames']} generated frames decoded" if decoding else "failed",
        "flow trial": f"{shift['error_px']} px off a known shift" if shift else "failed",
        "result": f"{works}, {notes} notes, {format_duration(result['seconds'])}",
    }


def _gpus(result: dict[str, Any]) -> str:
    found = [f"{gpu['name']}, {format_bytes(gpu['memory'])}" for gpu in result["gpus"]]
    driver = f"driver {result['driver']}" if result["driver"] else "no NVIDIA driver"
    built = f"PyTorch for CUDA {result['cuda']}" if result["cuda"] else "PyTorch without CUDA"
    return "; ".join([*(found or ["none"]), driver, built])


def _machine(found: dict[str, Any]) -> dict[str, str]:
    def of(name: str) -> str:
        return "unknown" if found[name] is None else format_bytes(found[name])

    files = found["open_files"]
    return {
        "machine": f"{found['cores']} cores, {of('memory')} memory, {of('memory_free')} free",
        "this folder": f"{of('disk_free')} free; file locks: {found['locks']}",
        "limits": f"/dev/shm {of('shm_free')} free;"
        f" open files {f'{files:,}' if files >= 0 else 'unlimited'}",
    }

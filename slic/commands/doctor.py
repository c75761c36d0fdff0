"""`slic doctor`: what it prints."""

from typing import Any

import typer
from rich.filesize import decimal as format_bytes

from slic.commands.options import Json
from slic.runtime.console import console, plain, show
from slic.runtime.progress import format_duration


def doctor_command(as_json: Json = False) -> None:
    """What is installed, what will be used here, and what to do about what is amiss.

    Exit code 1 where something that slic needs does not work.
    """
    from slic.upkeep.doctor.doctor import doctor

    result = doctor()
    show(result, as_json=as_json, rows=_rows(result))
    if not as_json:
        for problem in result["problems"]:
            kind = "broken" if problem["needed"] else "note"
            console().print(plain(f"{kind}: {problem['what']}: {problem['todo']}"))
    if not result["ok"]:
        raise typer.Exit(1)


def _rows(result: dict[str, Any]) -> dict[str, str]:
    versions = [f"{name} {version or '-'}" for name, version in result["packages"].items()]
    training, flow = result["training"], result["flow"]
    rows = {
        "slic": f"{result['slic']}, Python {result['python']}, {result['platform']}",
        "packages": ", ".join(versions),
        "GPUs": _gpus(result),
        "training": "cannot" if training is None else "{device}, {precision}".format(**training),
        "preset": "-" if training is None else training["preset"],
        "flow": "cannot" if flow is None else f"engine {flow['engine']} on {flow['device']}",
        "neighbours": result["neighbours"] or "cannot",
    }
    rows |= _machine(result["machine"])
    rows["tried"] = _tried(result["trials"])
    amiss = [problem for problem in result["problems"] if problem["needed"]]
    notes = len(result["problems"]) - len(amiss)
    rows["result"] = "all that slic needs works" if result["ok"] else f"broken: {len(amiss)}"
    rows["result"] += f"; notes: {notes}" * bool(notes) + f"; {format_duration(result['seconds'])}"
    return rows


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
        "here": f"{of('disk_free')} free; file locks: {found['locks'] or 'unknown'}",
        "limits": f"/dev/shm {of('shm_free')} free; open files"
        f" {'unknown' if files is None else f'{files:,}' if files >= 0 else 'unlimited'}",
    }


def _tried(trials: dict[str, Any]) -> str:
    decoding, flow = trials["decoding"], trials["flow"]
    parts = [
        "decoding failed" if decoding is None else f"decoded {decoding['frames']} drawn frames",
        "flow failed" if flow is None else f"flow of a known shift {flow['error_px']} px off",
    ]
    return "; ".join(parts)

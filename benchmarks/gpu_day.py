"""Check and measure everything that needs a GPU, in one command of at most eight minutes.

    python benchmarks/gpu_day.py [--minutes 8] [--out DIR] [--only PART ...] [--kept-flow FILE.npz]
        [VIDEO_OR_FOLDER ...]
    python benchmarks/gpu_day.py --rehearse

Each part runs in a process of its own, with a limit of its own, and is ended with all that it has
started when that is over; a part that fails stops no other. A line tells how each went, as it ends,
and tables follow at the end. DIR/gpu_day.json holds all figures, and is written anew after each
part; DIR/gpu_day.log holds what the parts said. DIR is $OUT, else gpu_day-results, unless given.

--rehearse takes small sizes on the CPU: Triton interprets the kernels. The exit code is 0 if every
part is ok, or is skipped for a reason that is told; 1 if one failed or was not done in time.
"""

import argparse
import os
import signal
import sys
import tempfile
import textwrap
import time
from pathlib import Path

from common import Row, refuse, video_files, write_json
from gpu_parts import MINUTES, PARTS
from in_time import run_in_time

ROOT = Path(__file__).parent
LEAST_S = 8.0  # a part that gets less is left out
RESERVED_S = 4.0  # for ending the last part, and to print
WIDTH = 80
BAD = ("failed", "timeout")


def run_parts(names: list[str], given: argparse.Namespace, folder: Path) -> dict[str, Row]:
    """Run the parts in order; after each, write the results and print a line."""
    over = time.monotonic() + 60 * given.minutes - RESERVED_S
    parts: dict[str, Row] = {name: {"status": "not reached"} for name in names}
    env = environment(folder, rehearse=given.rehearse)
    facts = {"minutes": given.minutes, "rehearsal": given.rehearse, "begun": time.time()}
    with open(given.out / "gpu_day.log", "w") as log:
        for name in names:
            limit_s = min(limit_of(name, given.minutes), over - time.monotonic())
            if given.rehearse and PARTS[name].not_rehearsed:
                parts[name] = _skipped(PARTS[name].not_rehearsed)
            elif limit_s < LEAST_S * given.minutes / MINUTES:
                parts[name] = _skipped("no time left")
            else:
                found = folder / f"{name}.json"
                command = command_of(name, found, limit_s, given)
                parts[name] = run_in_time(command, found, limit_s=limit_s, log=log, env=env)
            write_json(given.out / "gpu_day.json", {**facts, "parts": parts})
            print(line_of(name, parts[name]), flush=True)
    return parts


def limit_of(name: str, minutes: float) -> float:
    """Return the time limit of a part in seconds, given the minutes for all parts."""
    limit_s = PARTS[name].limit_s
    return 60 * minutes if limit_s is None else limit_s * minutes / MINUTES


def _skipped(reason: str) -> Row:
    return {"status": "skipped", "reason": reason, "seconds": 0.0}


def command_of(name: str, found: Path, limit_s: float, given: argparse.Namespace) -> list[str]:
    """Return the command that runs a part."""
    command = [sys.executable, str(ROOT / "gpu_part.py"), name, str(found)]
    command += [*map(str, given.videos), f"--seconds={limit_s}"]
    command += ["--rehearse"] if given.rehearse else []
    return command + ([f"--kept-flow={given.kept_flow.resolve()}"] if given.kept_flow else [])


def environment(folder: Path, *, rehearse: bool) -> dict[str, str]:
    """Print the tables of the parts that left results in the folder."""
    path = os.pathsep.join(filter(None, (str(ROOT.parent), os.environ.get("PYTHONPATH"))))
    # Several threads each, beside other work on few cores, take many times as long as one.
    small = {"CUDA_VISIBLE_DEVICES": "-1", "OMP_NUM_THREADS": "1"} if rehearse else {}
    told = {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "TMPDIR": str(folder)}
    return {**os.environ, **told, **small}


def line_of(name: str, row: Row) -> str:
    """Format one part's status and key figures, wrapped to 80 columns."""
    figures = row.get("figures", [])
    told = "; ".join([*([row["reason"]] if "reason" in row else []), *figures])
    begin = f"{name:<13} {row['status']:<8} {row['seconds']:>6.1f}  "
    return textwrap.fill(begin + told, WIDTH, subsequent_indent=" " * len(begin))


def parsed() -> argparse.Namespace:
    """Parse and check the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", nargs="*", type=Path, metavar="VIDEO_OR_FOLDER")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="in all (default 8)")
    parser.add_argument("--out", type=Path, default=os.environ.get("OUT") or "gpu_day-results")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--kept-flow", type=Path, help="OpenCV's flow, made by kept_flow.py")
    parser.add_argument("--rehearse", action="store_true", help="small sizes, on the CPU")
    given = parser.parse_args()
    given.videos = [path.resolve() for path in video_files(given.videos)]
    if given.kept_flow and not given.kept_flow.is_file():
        refuse(f"--kept-flow {given.kept_flow}: no such file")
    if not given.minutes > 0:
        refuse(f"--minutes {given.minutes:g}: give more than 0")
    if not given.rehearse and not has_gpu():
        refuse("there is no CUDA device here; --rehearse runs small sizes on the CPU")
    return given


def has_gpu() -> bool:
    """Return whether PyTorch finds a CUDA device."""
    import torch

    return torch.cuda.is_available()


def main() -> None:
    """Run the requested parts, print tables, and exit with 1 if a part failed."""
    given = parsed()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the part is ended as well
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        names = [name for name in PARTS if name in (given.only or PARTS)]
        print(f"{'part':<13} {'status':<8} {'seconds':>6}  figures")
        parts = run_parts(names, given, Path(folder))
    for name, row in parts.items():
        if row.get("shown"):
            print(f"\n{name}\n{row['shown'].rstrip()}")
    print(f"\nall figures: {given.out / 'gpu_day.json'}")
    if any(row["status"] in BAD for row in parts.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()

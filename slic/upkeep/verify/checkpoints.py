"""A run's checkpoints: whole, readable, and of this run; and what stands in for a damaged one."""

import re
import shutil
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

from slic.config import Settings, with_defaults
from slic.encoders.checkpoints import encoder_of, load_checkpoint
from slic.errors import CheckpointError, SettingsError, WorkError
from slic.runs import Run
from slic.runtime.disk import atomic_write, raise_if_unreadable
from slic.upkeep.verify.report import Fault

ASIDE = "set-aside"
_KEPT = re.compile(r"epoch\d+")


def checkpoint_fault(path: Path, settings: Settings | None) -> tuple[str | None, dict[str, Any]]:
    """What is wrong with a checkpoint, or None; and what it holds.

    Args:
        path: the file.
        settings: of its run, if they are known.

    Raises:
        DiskError: the system refuses to read it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                return f"damaged: {damaged} fails its checksum", {}
        content = load_checkpoint(path)
        encoder_of(content, where="it")
    except FileNotFoundError:
        return "is missing", {}
    except (OSError, zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise_if_unreadable(path, error)
        return f"damaged: {error}", {}
    except (CheckpointError, WorkError) as error:
        return f"damaged: {str(error).removeprefix(f'{path}: ')}", {}
    return _of_this_run(content, settings), content


def _of_this_run(content: dict[str, Any], settings: Settings | None) -> str | None:
    progress = content.get("progress")
    if not isinstance(progress, dict) or not isinstance(progress.get("epoch"), int):
        return "does not say how far it is"
    if settings is not None and content["encoder"] != settings.encoder:
        return f"of encoder {content['encoder']}, but the run's is {settings.encoder}"
    return None


def differing_settings(content: dict[str, Any], settings: Settings) -> list[str]:
    """Names and values of the settings in which a checkpoint and its run's config.toml differ."""
    of = content.get("settings")
    if not isinstance(of, dict):
        return []
    try:
        theirs, ours = with_defaults(of), settings.as_dict()
    except SettingsError:
        return ["unknown ones"]
    names = sorted(theirs.keys() | ours.keys())
    return [f"{n} {ours.get(n)} / {theirs.get(n)}" for n in names if ours.get(n) != theirs.get(n)]


def kept_checkpoints(run: Path) -> list[Path]:
    """The checkpoints of clusterings, the newest first."""
    folder = run / "checkpoints"
    found = [p for p in folder.iterdir() if _KEPT.fullmatch(p.name)] if folder.is_dir() else []
    return sorted(found, key=lambda path: int(path.name[5:]), reverse=True)


def set_aside(path: Path) -> None:
    """Rename a file, so that it is neither used nor lost."""
    path.rename(aside_of(path))


def aside_of(path: Path) -> Path:
    """A free name beside a file, for setting it aside."""
    aside = path.with_name(f"{path.name}.{ASIDE}")
    number = 2
    while aside.exists():
        aside = path.with_name(f"{path.name}.{ASIDE}-{number}")
        number += 1
    return aside


class Checkpoints:
    """The checkpoints of one run, looked at.

    Args:
        run: its folder.
        opened: the run itself, if its config.toml can be read.
    """

    def __init__(self, run: Path, opened: Run | None) -> None:
        self.run = run
        self.settings = opened.settings if opened else None
        self.latest = run / "checkpoints" / "latest"
        self.fault, self.content = checkpoint_fault(self.latest, self.settings)
        self.files = int(self.latest.exists())
        self.sound: dict[Path, dict[str, Any]] = {}
        self.broken: dict[Path, str] = {}
        for path in kept_checkpoints(run):
            why, content = checkpoint_fault(path, self.settings)
            self.files += 1
            if why is None:
                self.sound[path] = {"progress": content["progress"]}
            else:
                self.broken[path] = why

    def faults(self, *, trained: bool) -> list[Fault]:
        """Their faults; that the latest is missing is one if the run has trained."""
        found = []
        if self.fault and (self.latest.exists() or self.files or trained):
            found.append(self._latest_fault(self.fault))
        for path, why in self.broken.items():
            aside = f"set it aside as {aside_of(path).name}"
            where = path.relative_to(self.run).as_posix()
            found.append(Fault(where, why, aside, partial(set_aside, path)))
        changed = differing_settings(self.content, self.settings) if self.settings else []
        if changed and not self.fault:
            what = f"other settings than the latest checkpoint's ({', '.join(changed)})"
            found.append(Fault("config.toml", f"{what}: put them right by hand"))
        return found

    def _latest_fault(self, why: str) -> Fault:
        steps = []
        if self.latest.exists():
            steps.append(f"set it aside as {aside_of(self.latest).name}")
        if kept := next(iter(self.sound), None):
            steps.append(f"put {kept.name} in its place: `slic train` goes on from there")
        else:
            steps.append("`slic train` begins anew")
            if (self.run / "metrics.jsonl").exists():
                steps.append(
                    f"metrics.jsonl is kept as {aside_of(self.run / 'metrics.jsonl').name}"
                )
        return Fault("checkpoints/latest", why, "; ".join(steps), self._replace_latest)

    def _replace_latest(self) -> None:
        """Let an earlier checkpoint take the place of the latest, or none.

        The lines of metrics.jsonl that come after it go, as when `train` goes on: its `done`
        would make the run count as finished.
        """
        kept = next(iter(self.sound), None)
        metrics = self.run / "metrics.jsonl"
        if self.latest.exists():
            set_aside(self.latest)
        if kept is None:
            if metrics.exists():
                set_aside(metrics)
            return
        if metrics.exists():
            count = int(self.sound[kept]["progress"].get("lines", 0))
            keep_lines(metrics, metrics.read_bytes().split(b"\n")[:-1][:count])
        with kept.open("rb") as source, atomic_write(self.latest) as target:
            shutil.copyfileobj(source, target)


def keep_lines(path: Path, lines: list[bytes]) -> None:
    """Write a file of these lines, whole or not at all."""
    with atomic_write(path) as file:
        file.write(b"".join(line + b"\n" for line in lines))

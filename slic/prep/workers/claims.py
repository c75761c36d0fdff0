"""A claim: a file in a store by which a worker elsewhere knows that its command still runs.

A worker that was given up (cut off from the network, or stopped for a while) does its video to the
end, when others may have done it long since, and its flow as well.
"""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from slic.cache.writers import aside_name
from slic.errors import DiskError
from slic.runtime.disk import disk_errors_at


@contextlib.contextmanager
def claim_of(store: Path) -> Iterator[Path]:
    """A new claim, which stands for as long as the block runs.

    Its content is random: only who sees the same file can tell it.
    """
    path = store.absolute() / "index" / "writing" / aside_name("claim")
    with disk_errors_at(store):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(uuid.uuid4().hex)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def renew(claim: Path) -> None:
    """Let it count as new: what is older than a day in that folder is taken for a leftover."""
    with contextlib.suppress(OSError):
        os.utime(claim)


def content(claim: Path) -> str | None:
    """What a claim says, or None where it is not seen."""
    try:  # to read it, as NFS may remember a name longer than it is there
        return claim.read_text()
    except OSError:
        return None


def check_claim(claim: Path | None) -> None:
    """Refuse to publish what is no longer asked for; without a claim, nothing is refused.

    Raises:
        DiskError: the claim has gone.
    """
    if claim is not None and content(claim) is None:
        raise DiskError("its command has ended")

"""The pool of reading processes: order, persistence, errors."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from slic.cache import ClipStore
from slic.clips.reading import ReaderPool, worker_errors
from slic.errors import StoreError, WorkError


@dataclass(frozen=True)
class Mean:
    """Mean of a video's first frame, and the process that computed it."""

    video: str

    def __call__(self, store: ClipStore) -> torch.Tensor:
        mean = store.read(self.video, 0, 1).mean()
        return torch.tensor([mean, os.getpid()], dtype=torch.float64)


@dataclass(frozen=True)
class Death:
    """Ends its process, as the system does when memory runs out."""

    def __call__(self, store: ClipStore) -> torch.Tensor:
        os._exit(1)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_results_come_in_order_from_processes_that_stay(drawn_store: Path, workers: int) -> None:
    store = ClipStore(drawn_store)
    pool, pids = ReaderPool(ClipStore(drawn_store), workers=workers), set()
    for ids in (store.ids, store.ids[::-1], store.ids[:1]):
        found = list(pool.results(Mean(video) for video in ids))
        assert [float(f[0]) for f in found] == [store.read(v, 0, 1).mean() for v in ids]
        pids |= {int(f[1]) for f in found}
    assert len(pids) == max(1, workers)
    assert (os.getpid() in pids) == (workers == 0)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_keeps_kind_and_line_and_the_pool_goes_on(store: ClipStore, workers: int) -> None:
    pool = ReaderPool(store, workers=workers)
    with pytest.raises(StoreError) as caught:
        list(pool.results([Mean(store.ids[0]), Mean("nowhere.avi"), Mean(store.ids[1])]))
    assert str(caught.value) == f"{store.path}: contains no video 'nowhere.avi'"
    assert len(list(pool.results([Mean(store.ids[0])]))) == 1


def test_no_more_jobs_are_taken_than_readers_can_hold(store: ClipStore) -> None:
    taken = 0

    def jobs() -> object:
        nonlocal taken
        for _ in range(100):
            taken += 1
            yield Mean(store.ids[0])

    results = ReaderPool(store, workers=1).results(jobs())
    next(results)
    assert taken <= 4
    results.close()


def test_a_process_that_dies_is_one_line(store: ClipStore) -> None:
    with pytest.raises(WorkError, match=r"fewer --workers$") as caught:
        list(ReaderPool(store, workers=1).results([Death()]))
    assert "\n" not in str(caught.value)
    with pytest.raises(RuntimeError, match="something else"), worker_errors():
        raise RuntimeError("something else")

from dataclasses import replace

import numpy as np
import pytest

from slic.page.videos import Videos


def frames(count: int) -> np.ndarray:
    return np.zeros((count, 6, 8, 3), np.uint8)


def test_a_video_has_one_row(store):
    entries = store.entries()
    videos = Videos(store, entries, split=2, clusters={entries[3].id: 7})
    asked = [entries[3], entries[0], entries[3], entries[5]]
    assert [videos.row_of(entry.id) for entry in asked] == [0, 1, 0, 2]
    shown = [entries[3], entries[0], entries[5]]
    assert videos.ids == [entry.id for entry in shown]
    assert videos.table() == {
        "id": [entry.id for entry in shown],
        "label": [entry.label for entry in shown],
        "cluster": [7, None, None],
        "split": [entry.split2 for entry in shown],
        "seconds": [round(entry.frames / entry.fps, 3) for entry in shown],
    }
    assert [(s.video, s.start, s.end) for s in videos.scenes] == [
        (entry.id, 0, entry.frames) for entry in shown
    ]


def test_segments_are_rows_of_their_own(store_of):
    store = store_of({"a": frames(200)})
    videos = Videos(store, store.entries(), split=1, clusters={"a": 4})
    spans = [(None, None), (0, 50), (50, 125), (190, 999), (3, None)]
    assert [videos.row_of("a", *span) for span in [*spans, *spans]] == [0, 1, 2, 3, 4] * 2
    assert videos.ids == ["a", "a#t=0,2", "a#t=2,5", "a#t=7.6,39.96", "a#t=0.12,8"]
    assert videos.table()["seconds"] == [8.0, 2.0, 3.0, 0.4, 7.88]
    assert videos.table()["cluster"] == [4] * 5
    assert [(s.start, s.end) for s in videos.scenes][1:] == [
        (0, 50), (50, 125), (190, 200), (3, 200),
    ]  # fmt: skip


@pytest.mark.parametrize("fps", [None, 0.0, float("nan"), float("inf"), -1.0])
def test_without_a_frame_rate_there_are_25_a_second(store_of, fps):
    store = store_of({"a": frames(9)})
    entry = replace(store.entry("a"), fps=fps)
    videos = Videos(store, [entry], split=1, clusters={})
    videos.row_of("a", 2, 5)
    assert videos.ids == ["a#t=0.08,0.2"]
    assert videos.table()["seconds"] == [None]


def test_a_segment_beyond_the_end_has_no_picture(store_of):
    store = store_of({"a": frames(9)})
    videos = Videos(store, store.entries(), split=1, clusters={})
    videos.row_of("a", 9, 12)
    assert videos.scenes == [None]


def test_without_the_store_labels_are_the_cache_s(cache_of):
    cache = cache_of(np.eye(3), ["x", None, "y"], ["test", "train", None])
    videos = Videos(None, [], split=1, clusters={"v1": 0}, cache=cache)
    for video in ("v2", "v0", "v1", "gone"):
        videos.row_of(video)
    assert videos.table() == {
        "id": ["v2", "v0", "v1", "gone"],
        "label": ["y", "x", None, None],
        "cluster": [None, None, 0, None],
        "split": ["unused", "test", "train", None],
        "seconds": [None] * 4,
    }
    assert videos.scenes == [None] * 4
    other = Videos(None, [], split=3, clusters={}, cache=cache)
    other.row_of("v0")
    assert other.table()["split"] == [None]


def test_a_video_of_another_store(store_of):
    store, queries = store_of({"query0": frames(4)}), store_of({"query0": frames(50)})
    videos = Videos(store, store.entries(), split=1, clusters={"query0": 3})
    entry = queries.entry("query0")
    rows = [videos.row_of("query0"), videos.row_of_file("my <clip>.mp4", queries, entry)]
    assert [*rows, videos.row_of_file("my <clip>.mp4", queries, entry)] == [0, 1, 1]
    assert videos.ids == ["query0", "my <clip>.mp4"]
    assert videos.table()["cluster"] == [3, None]
    assert [scene.store for scene in videos.scenes] == [store, queries]
    assert videos.table()["seconds"] == [0.16, 2.0]

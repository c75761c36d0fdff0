"""Segments of videos as queries, and windows of long videos as answers."""

import json
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from slic.cache import ClipStore, EmbeddingCache
from slic.clips.pixels import centre_view
from slic.clips.positions import even_starts
from slic.demo.figures import ACTIONS
from slic.demo.scenes import draw_clip
from slic.embed.embedding import Protocol
from slic.encoders.checkpoints import load_encoder
from slic.encoders.encoder import normalise
from slic.neighbours import ivf
from slic.prep.frames import prep_frames
from slic.runs import Run, find_run
from slic.search import search

HERE = {"device": "cpu", "workers": 0, "say": str}
SCENE_FRAMES, FPS = 30, 10.0  # three seconds each


@pytest.fixture
def run(work: Path) -> Run:
    return find_run(None)


def save(frames: np.ndarray, path: Path, *, fps: float = FPS) -> Path:
    height, width = frames.shape[1:3]
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (width, height))
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return path


def scenes(seed: int, count: int) -> np.ndarray:
    """Different actions before different backgrounds, one after the other."""
    options = {"clip": 1, "frames": SCENE_FRAMES, "size": (64, 48), "seed": seed}
    clips = [draw_clip(ACTIONS[i % 10], group=i + 1, **options) for i in range(count)]
    return np.concatenate(clips)


LONG = {"first.avi": (1, 4), "second.avi": (2, 5), "third.avi": (3, 3)}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    """A store of three long videos and a short one, and their frames. Tests only read it."""
    folder = tmp_path_factory.mktemp("films")
    frames = {name: scenes(*how) for name, how in LONG.items()}
    frames["short.avi"] = scenes(7, 1)[:13]
    for name, pictures in frames.items():
        save(pictures, folder / "films" / name)
    prep_frames(str(folder / "films"), store=str(folder / "films.zarr"), workers=1)
    return folder / "films.zarr", frames


def windows_by_loop(run: Run, store: ClipStore, protocol: Protocol) -> list[tuple]:
    """Video, seconds and backbone of every window of 2 s each second, one at a time."""
    encoder = load_encoder(run.checkpoint)
    rows = []
    for entry in store.entries():
        size = round(2 * entry.fps)
        firsts = [*range(0, max(1, entry.frames - size), round(entry.fps))]
        firsts += [entry.frames - size] if entry.frames > size else []
        for first in firsts:
            count = min(size, entry.frames)
            starts = even_starts(count, protocol.clips, frames=protocol.frames)
            clips = [
                centre_view(store.read(entry.id, first + s, protocol.frames), protocol.size)
                for s in starts
            ]
            inputs = normalise(torch_from(clips), device="cpu")
            row = encoder(inputs)[0].detach().double().numpy().mean(0)
            rows.append((entry.id, first / entry.fps, (first + count) / entry.fps, row))
    return rows


def torch_from(clips: list[np.ndarray]):
    import torch

    return torch.from_numpy(np.stack(clips))


def test_windows_are_embedded_as_a_loop_does_and_cached(run, films):
    path, _ = films
    how = {"store": str(path), "window": "2s", "stride": "1s", "clips": 3, **HERE}
    found = search(run, ["first.avi#t=1,2"], **how)
    cache = EmbeddingCache(found["cache"])
    assert cache.path.name.endswith("-3clips-4x1-16px-w2s-s1s.h5")
    expected = windows_by_loop(run, ClipStore(path), Protocol(3, 4, 1, 16))
    assert cache.places is not None
    assert cache.places.of.tolist() == [row[0] for row in expected]
    np.testing.assert_allclose(cache.places.start, [row[1] for row in expected])
    np.testing.assert_allclose(cache.places.end, [row[2] for row in expected])
    rows = np.array([row[3] for row in expected])
    np.testing.assert_allclose(cache.backbone, rows, rtol=1e-4, atol=1e-5)
    assert found["windows"] == len(expected) == 11 + 14 + 8 + 1
    assert (found["videos"], found["window"], found["stride"]) == (4, 2, 1)
    with h5py.File(cache.path) as file:
        assert file["of"].asstr()[0] == "first.avi"
        assert file["video"].asstr()[1] == "first.avi#t=1,3"
        assert (file.attrs["window"], file.attrs["window_stride"]) == (2, 1)
    before = cache.path.stat().st_mtime_ns
    assert search(run, ["first.avi#t=1,2"], **how)["results"] == found["results"]
    assert cache.path.stat().st_mtime_ns == before


def test_answers_are_apart_and_the_best_of_a_loop(run, films):
    path, _ = films
    how = {"store": str(path), "window": "1s", "stride": "0.2s", "clips": 2, **HERE}
    whole = search(run, ["second.avi#t=3,5"], k=10_000, feature="backbone", **how)
    cache = EmbeddingCache(whole["cache"])
    at, rows = cache.places, cache.backbone.astype(np.float64)
    entry = ClipStore(path).entry("second.avi")
    encoder = load_encoder(run.checkpoint)
    starts = even_starts(20, 2, frames=4)
    clips = [centre_view(ClipStore(path).read("second.avi", 30 + s, 4), 16) for s in starts]
    query = encoder(normalise(torch_from(clips), device="cpu"))[0].detach().double().numpy().mean(0)
    cosine = rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)
    taken = [("second.avi", 3.0, 5.0)]
    expected = []
    for row in np.argsort(-cosine, kind="stable"):
        place = (at.of[row], at.start[row], at.end[row])
        if not any(v == place[0] and s < place[2] and place[1] < e for v, s, e in taken):
            taken.append(place)
            expected.append((*place, cosine[row]))
    assert entry.fps == FPS
    found = whole["results"]
    assert [r["rank"] for r in found] == list(range(1, len(expected) + 1))
    np.testing.assert_allclose(
        [r["similarity"] for r in found], [e[3] for e in expected], atol=1e-5
    )
    same = [(r["id"], r["start"], r["end"]) == e[:3] for r, e in zip(found, expected, strict=True)]
    assert np.mean(same) > 0.9  # those of nearly equal similarity may change places
    few = search(run, ["second.avi#t=3,5"], k=3, feature="backbone", **how)
    assert few["results"] == found[:3]


def test_what_is_asked_for_is_no_answer_itself(run, films):
    how = {"store": str(films[0]), "k": 1000, **HERE}
    for result in search(run, ["first.avi", "first.avi#t=1,2"], **how)["results"]:
        assert result["id"] != "first.avi"
        assert (result["start"], result["end"]) == (None, None)
    windows = {"window": "1s", "stride": "1s", **how}
    assert {r["id"] for r in search(run, ["first.avi"], **windows)["results"]} == {
        "second.avi",
        "third.avi",
        "short.avi",
    }
    for result in search(run, ["first.avi#t=5,7"], **windows)["results"]:
        assert result["id"] != "first.avi" or result["end"] <= 5 or result["start"] >= 7


def test_of_a_file_only_the_segment_counts(run, films, tmp_path):
    path, frames = films
    long = save(frames["second.avi"], tmp_path / "long.avi")
    short = save(frames["second.avi"][60:90], tmp_path / "short.avi")
    how = {"store": str(path), "k": 4, "clips": 4, **HERE}
    part, rest, start, whole = (
        search(run, [f"{long}{words}"], **how)["results"]
        for words in ("#t=6,9", "#t=6", "#t=,9", "#t=0,1000")
    )
    cut = search(run, [str(short)], **how)["results"]
    keys = ("rank", "id", "similarity")
    assert [[r[k] for k in keys[:2]] for r in part] == [[r[k] for k in keys[:2]] for r in cut]
    similar = [r["similarity"] for r in cut]
    np.testing.assert_allclose([r["similarity"] for r in part], similar, atol=2e-3)
    assert [r["similarity"] for r in rest] != [r["similarity"] for r in start]
    complete = search(run, [str(long)], **how)["results"]
    assert [r["similarity"] for r in whole] == [r["similarity"] for r in complete]


def test_a_file_or_id_that_is_named_like_a_segment_is_meant_whole(run, films, tmp_path):
    _, frames = films
    folder = tmp_path / "odd"
    odd = save(frames["short.avi"], folder / "a#t=1,2.avi")
    save(frames["first.avi"], folder / "a.avi")
    prep_frames(str(folder), store=str(tmp_path / "odd.zarr"), workers=1)
    how = {"store": str(tmp_path / "odd.zarr"), **HERE}
    by_id = search(run, ["a#t=1,2.avi"], **how)["results"]
    assert [row["id"] for row in by_id] == ["a.avi"]
    by_file = search(run, [str(odd)], k=1, **how)["results"]
    assert by_file[0]["id"] == "a#t=1,2.avi"
    assert by_file[0]["similarity"] == pytest.approx(1, abs=1e-5)
    part = search(run, ["a#t=1,2.avi#t=0.5"], **how)["results"]
    assert [row["id"] for row in part] == ["a.avi"]


BAD = ["#t=12,13", "#t=3,3", "#t=4,2", "#t=nan", "#t=", " --window 0", " --window nan"]
BAD += [" --stride 1s", " --window 1s --stride 0"]


@pytest.mark.parametrize("words", BAD)
def test_bad_segments_and_windows_are_one_line(run, films, slic, words, monkeypatch):
    from slic.embed import cached

    monkeypatch.setattr(cached, "embed", None)  # nothing is computed for them
    words = f"first.avi{words}".split()
    code, out, err = slic("search", *words, "--store", str(films[0]), "--json")
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1


def test_a_segment_behind_a_files_end_fails_and_the_others_go_on(run, films, tmp_path, slic):
    path, frames = films
    file = save(frames["short.avi"], tmp_path / "q.avi")
    words = [f"{file}#t=20,30", "second.avi", f"{file}#t=0.5"]
    code, out, err = slic("search", *words, "--store", str(path), "--json", "--workers", "0")
    result = json.loads(out)
    assert code == 1
    assert [failure["query"] for failure in result["failures"]] == words[:1]
    assert "1.3 s" in result["failures"][0]["reason"]
    assert {row["query"] for row in result["results"]} == set(words[1:])
    assert words[0] in err


def test_videos_that_tell_no_rate_are_counted_at_25(run, films, tmp_path):
    _, frames = films
    for name in ("first.avi", "third.avi"):
        (folder := tmp_path / "images" / name).mkdir(parents=True)
        for number, picture in enumerate(frames[name][:60]):
            cv2.imwrite(str(folder / f"{number:05d}.jpg"), picture)
    store = tmp_path / "images.zarr"
    prep_frames(str(tmp_path / "images"), store=str(store), workers=1, layout="images")
    assert not any(entry.fps for entry in ClipStore(store).entries())
    said: list[str] = []
    how = {**HERE, "say": said.append, "store": str(store), "window": "1s"}
    found = search(run, ["first.avi#t=0,1"], k=50, **how)
    assert any("25 frames" in line for line in said)
    assert {(row["start"], row["end"]) for row in found["results"]} <= {
        (s / 25, (s + 25) / 25) for s in range(36)
    }
    assert found["windows"] == 2 * 4


def test_windows_and_videos_of_one_frame(run, tmp_path):
    folder = tmp_path / "tiny"
    pictures = scenes(5, 1)
    for name, count in (("one", 1), ("two", 2), ("three", 3)):
        save(pictures[:count], folder / f"{name}.avi", fps=29.97)
    store = tmp_path / "tiny.zarr"
    prep_frames(str(folder), store=str(store), workers=1)
    for window, stride, count in (("1ms", "1ms", 6), ("10s", None, 3), ("40ms", "5s", 1 + 2 + 2)):
        how = {"store": str(store), "window": window, "stride": stride, "k": 100, **HERE}
        found = search(run, [str(folder / "two.avi")], **how)
        assert found["windows"] == count
        assert {row["id"] for row in found["results"]} == {"one.avi", "two.avi", "three.avi"}


def test_window_caches_are_listed_verified_and_not_taken_for_others(
    run, films, slic, work, monkeypatch
):
    monkeypatch.setattr(ivf, "APPROXIMATE_FROM", 2)  # so that an index is saved
    path, _ = films
    (work / "films.zarr").symlink_to(path)
    how = {"store": "films.zarr", "k": 1, "clips": 2, **HERE}
    windows = search(run, ["first.avi"], window="2s", stride="1s", **how)
    videos = search(run, ["first.avi"], **how)
    assert windows["cache"] != videos["cache"]
    assert EmbeddingCache(videos["cache"]).places is None
    listed = json.loads(slic("cache", "list", "--json")[1])
    caches = {Path(cache["path"]).name: cache for cache in listed["caches"]}
    own = caches[Path(windows["cache"]).name]
    assert own["protocol"].endswith("-w2s-s1s")
    assert (own["state"], own["videos"]) == ("current", 4)
    first, other = run.embeddings.glob("*.npz")
    sizes = sum(index.stat().st_size for index in (first, other))
    assert sum(cache["index_bytes"] for cache in listed["caches"]) == sizes
    assert json.loads(slic("cache", "verify", run.path.name, "--json")[1])["faults"] == []
    first.write_bytes(b"no index")
    code, out, _ = slic("cache", "verify", run.path.name, "--json")
    (fault,) = json.loads(out)["faults"]
    assert (code, fault["where"]) == (1, f"embeddings/{first.name}")
    assert slic("cache", "verify", run.path.name, "--repair")[0] == 0
    assert (first.exists(), other.exists()) == (False, True)


def test_the_index_of_an_outdated_cache_goes_with_it(run, films, slic, work, monkeypatch):
    monkeypatch.setattr(ivf, "APPROXIMATE_FROM", 2)
    (work / "films.zarr").symlink_to(films[0])
    found = search(run, ["first.avi"], store="films.zarr", k=1, **HERE)
    (index,) = run.embeddings.glob("*.npz")
    (work / "films.zarr").unlink()
    (work / "films.zarr").symlink_to((work / "ucf101.zarr").resolve())
    stray = index.with_name("gone.backbone.npz")
    stray.write_bytes(b"x")
    out = json.loads(slic("cache", "clean", "--yes", "--json")[1])
    names = {Path(item["path"]).name for item in out["files"]}
    assert names == {index.name, stray.name, Path(found["cache"]).name}
    assert not any(path.exists() for path in (index, stray, Path(found["cache"])))

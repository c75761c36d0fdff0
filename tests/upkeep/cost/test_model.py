"""The model of cost against calculations by hand."""

from dataclasses import replace
from math import isclose

import pytest

from slic.config import make_settings
from slic.prep.space import OVERHEAD
from slic.train.slic_settings import SlicSettings
from slic.upkeep.cost.data import Data
from slic.upkeep.cost.model import Fleet, Model, Network
from slic.upkeep.cost.rates import Rate

DATA = Data(
    name="ten",
    basis="by hand",
    videos=10,
    train=6,
    test=3,
    labelled=True,
    frames=1000.0,
    weight=2.0,
    pixels=100.0,
    frame_bytes=40.0,
    flow_bytes=10.0,
    frames_left=1000.0,
    pairs_left=990.0,
    videos_left=10,
)
NET = Network(flops=1e6, parameters=1000, features=64)
# Every rate so that its work takes round times.
VALUES = {
    "decode": 100.0,  # 1,000 frames of twice the work: 20 s
    "encode": 10_000.0,  # 100,000 pixels: 10 s
    "video": 0.5,  # 10 videos: 5 s
    "flow_cpu": 9900.0,  # 99,000 pixels: 10 s
    "flow_gpu": 990.0,
    "read": 1000.0,
    "augment": 500.0,
    "compute_cpu": 1e6,
    "compute_gpu": 1e7,
    "neighbours": 128.0,
    "lists": 0.5,
    "start": 1.5,
    "disk": 1e9,
    "network": 1000.0,
}
RATES = {name: Rate(value, "measured", "by hand") for name, value in VALUES.items()}


@pytest.fixture
def settings() -> SlicSettings:
    """Two epochs of the six training videos, clips of 4 frames, batches of 4."""
    options = {"epochs": 2, "batch_size": 4, "frames": 4, "retrieval_clips": 5}
    return make_settings("ucf101-16f", options=options)


def model(settings: SlicSettings, fleet: Fleet, *, data: Data = DATA, **rates: float) -> Model:
    changed = {name: replace(RATES[name], value=value) for name, value in rates.items()}
    return Model(data, settings, NET, fleet, RATES | changed, clusterings=3)


def test_frames_by_hand(settings: SlicSettings) -> None:
    stage = model(settings, Fleet(1, 1, 0)).frames()
    assert stage.amount == 1000
    assert isclose(stage.parts["decoding"][0], 20 + 10 + 5)
    assert isclose(stage.parts["disk"][0], (1000 * 40 + 10 * OVERHEAD) / 1e9)
    assert stage.limit == "decoding"


def test_cores_share_and_the_disk_does_not(settings: SlicSettings) -> None:
    stage = model(settings, Fleet(5, 7, 0), disk=1000.0).frames()
    assert isclose(stage.parts["decoding"][0], 1.0)
    assert isclose(stage.parts["disk"][0], 160.0)
    # A command starts, and then the processes that decode for it.
    assert (stage.limit, stage.seconds) == ("disk", stage.parts["disk"][0] + 2 * 1.5)


def test_short_work_takes_as_long_as_starting_it(settings: SlicSettings) -> None:
    stage = model(settings, Fleet(1, 1, 0), start=1000.0).flow()
    assert (stage.limit, stage.seconds) == ("starting", 2000 + stage.parts["flow"][0])
    assert stage.rate == "start"


def test_flow_by_hand(settings: SlicSettings) -> None:
    on_cpu = model(settings, Fleet(1, 2, 0)).flow()
    assert on_cpu.amount == 990
    assert isclose(on_cpu.parts["flow"][0], 5.0)
    on_gpu = model(settings, Fleet(1, 2, 4)).flow()
    assert isclose(on_gpu.parts["GPU"][0], 99_000 / 990 / 4)
    # Frames are read, and two planes of three coded: 99 s and 6.6 s of a core.
    assert isclose(on_gpu.parts["reading"][0], (99 + 6.6) / 2)


def test_no_flow_where_none_is_used(settings: SlicSettings) -> None:
    plain = replace(settings, flow_probability=0.0)
    assert model(plain, Fleet(1, 1, 0)).flow().seconds == 0
    assert model(plain, Fleet(1, 1, 0)).sizes()["flow"] == 0


def test_training_by_hand(settings: SlicSettings) -> None:
    # 12 samples are 36 clips: 36 x 3e6 operations, and 36 x 4 frames of 100 pixels.
    on_cpu = model(settings, Fleet(1, 2, 0)).train()
    assert on_cpu.amount == 36
    assert isclose(on_cpu.parts["cores"][0], (108 + 14_400 / 500) / 2)
    on_gpu = model(settings, Fleet(1, 100, 2)).train()
    assert isclose(on_gpu.parts["GPU"][0], 10.8 / 2)
    assert isclose(on_gpu.parts["reading"][0], 14.4 / 32)  # sixteen readers a GPU
    assert "network" not in on_gpu.parts


def test_bytes_of_a_sample(settings: SlicSettings) -> None:
    # The anchor once, the positive RGB in three of four, flow for a quarter of two views.
    a_sample = 4 * (1.75 * 40 + 0.5 * 10)
    stage = model(settings, Fleet(1, 1, 1), disk=1.0).train()
    assert isclose(stage.parts["disk"][0], 12 * a_sample)


def test_gradients_travel_between_machines(settings: SlicSettings) -> None:
    # Two epochs of two steps; each sends and takes half of 4,000 bytes twice.
    stage = model(settings, Fleet(2, 1, 2)).train()
    assert isclose(stage.parts["network"][0], 4 * 4000 / 1000)


def test_clustering_by_hand(settings: SlicSettings) -> None:
    of = model(settings, Fleet(3, 2, 0))
    assert of.embed().amount == 3 * (6 + 3)
    # Of three clusterings, 2 x 6 x 6 x 128 operations each, on one machine's two cores. Then a
    # quarter of the six look among the others for the recall, and the three of the test split.
    compared = 6 * 6 + 1.5 * 4.5 + 6 * 3
    assert isclose(of.cluster().seconds, 3 * 2 * compared / 2)
    unlabelled = replace(DATA, labelled=False, test=0)
    assert isclose(
        model(settings, Fleet(3, 2, 0), data=unlabelled).cluster().seconds, 3 * 2 * 36 / 2
    )
    by_backbone = replace(settings, retrieval_feature="backbone")
    compared = 6 * 6 + 0.5 * (1.5 * 4.5 + 6 * 3)  # 64 numbers in place of 128
    assert isclose(model(by_backbone, Fleet(3, 2, 0)).cluster().seconds, 3 * 2 * compared / 2)


def test_a_million_rows_are_searched_in_lists(settings: SlicSettings) -> None:
    rows = 1_000_000
    of = model(settings, Fleet(1, 1, 0), data=replace(DATA, train=rows))
    # 4,000 lists: half of the rows, both ways to the lists, and k-means of 40 rows a list.
    compared = 0.5 * rows**2 + 2 * rows * 4000 + 10 * 40 * 4000**2
    recalls = 3 * rows**2 / 16 + 3 * rows  # exact at any size
    assert isclose(of.cluster().seconds, 3 * 2 * (compared + recalls))
    unlabelled = replace(DATA, train=rows - 1, test=0, labelled=False)
    fewer = model(settings, Fleet(1, 1, 0), data=unlabelled)
    assert isclose(fewer.cluster().seconds, 3 * 2 * (rows - 1) ** 2)


def test_evaluation_embeds_every_video(settings: SlicSettings) -> None:
    stage = model(settings, Fleet(1, 1, 0)).evaluate()
    assert stage.amount == 50
    assert isclose(stage.parts["cores"][0], 50 + 50 * 400 / 1000)
    assert isclose(stage.seconds, stage.parts["cores"][0] + 2 * 1.5)


def test_one_machine_evaluates_on_one_gpu(settings: SlicSettings) -> None:
    stage = model(settings, Fleet(3, 4, 24)).evaluate()
    assert isclose(stage.parts["GPU"][0], 50 * 1e6 / 1e7)
    assert isclose(stage.parts["reading"][0], 50 * 400 / 1000 / 4)
    assert stage.fleet == Fleet(1, 4, 1)
    on_cores = model(settings, Fleet(3, 4, 0)).evaluate()
    assert isclose(on_cores.parts["cores"][0], (50 + 50 * 400 / 1000) / 4)


def test_what_is_held(settings: SlicSettings) -> None:
    held = {stage.name: stage.fleet for stage in model(settings, Fleet(2, 3, 4)).stages()}
    assert held.pop("frames") == Fleet(2, 3, 0)
    assert held.pop("evaluate") == Fleet(1, 3, 1)
    assert set(held.values()) == {Fleet(2, 3, 4)}  # a clustering keeps the GPUs waiting


def test_sizes_by_hand(settings: SlicSettings) -> None:
    sizes = model(settings, Fleet(1, 1, 0)).sizes()
    assert sizes["frames"] == 1000 * 40 + 10 * OVERHEAD
    assert sizes["flow"] == 990 * 10 + 10 * OVERHEAD
    assert sizes["embeddings"] == 10 * 4 * (64 + 128)
    assert sizes["checkpoint"] == 2 * 4 * 1000  # weights and momentum


def test_empty_data_takes_no_time(settings: SlicSettings) -> None:
    nothing = {"frames_left": 0.0, "pairs_left": 0.0, "videos_left": 0, "train": 0, "test": 0}
    stages = model(settings, Fleet(1, 1, 0), data=replace(DATA, **nothing)).stages()
    assert [stage.name for stage in stages if stage.seconds] == ["evaluate"]

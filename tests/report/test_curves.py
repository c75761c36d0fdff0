import math

import pytest

from slic.report.curves import curves


def series(found: list[dict]) -> dict[str, dict[str, list]]:
    return {c["key"]: {s["name"]: s["points"] for s in c["series"]} for c in found}


def test_epochs_stand_at_their_end_and_clusterings_before_theirs():
    epochs = [{"epoch": e, "loss": 3.0 - e, "lr": 0.1, "seconds": 2} for e in range(2)]
    clusterings = [{"epoch": e, "clusters": 9 - e, "nmi": 0.5} for e in (0, 1, 2)]
    found = series(curves(epochs, clusterings))
    assert found["loss"] == {"loss": [(1, 3.0), (2, 2.0)]}
    assert found["clusters"] == {"clusters": [(0, 9), (1, 8), (2, 7)]}
    assert found["agreement"] == {"NMI": [(0, 0.5), (1, 0.5), (2, 0.5)]}
    assert set(found) == {"loss", "lr", "seconds", "clusters", "agreement"}


def test_recall_of_test_videos_says_what_it_is_for():
    both = {"epoch": 5, "recall": {"1": 0.5, "5": 0.75}, "test_recall": {"1": 0.25, "5": 1}}
    found = series(curves([], [both]))["recall"]
    assert list(found.values()) == [[(5, v)] for v in (0.5, 0.75, 0.25, 1)]
    of_test = [name for name, points in found.items() if points[0][1] in (0.25, 1)]
    assert all("test" in name and "only" in name for name in of_test)


def test_what_holds_no_number_is_left_out():
    unlabelled = {"epoch": 0, "clusters": 3, "nmi": None, "ami": None, "recall": None}
    rates = {"epoch": 0, "loss": 1.0, "false_positive_rate": None, "false_negative_rate": None}
    assert set(series(curves([rates], [unlabelled]))) == {"loss", "clusters"}
    assert curves([], []) == []


@pytest.mark.parametrize("odd", [math.nan, math.inf, "1", None, [1], {"x": 2}, -math.inf])
def test_values_of_damaged_lines_are_left_out(odd):
    lines = [{"epoch": 0, "loss": 1.0}, {"epoch": 1, "loss": odd}, {"epoch": odd, "loss": 2.0}, {}]
    assert series(curves(lines, [{"epoch": 3, "recall": odd}])) == {"loss": {"loss": [(1, 1.0)]}}


def test_of_an_epoch_recorded_twice_the_last_counts_and_x_ascends():
    lines = [{"epoch": e, "loss": v} for e, v in ((2, 1.0), (0, 2.0), (2, 3.0))]
    assert series(curves(lines, []))["loss"]["loss"] == [(1, 2.0), (3, 3.0)]

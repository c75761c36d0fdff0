"""Keys, fingerprints, and rows made from arrays."""

from dataclasses import replace

from slic.cache.entries import Entry, array_attributes, entry_from_array, fingerprint, video_key


def test_keys_are_safe_and_distinct() -> None:
    ids = ["a/x.avi", "b/x.avi", "a/x.mp4", "A/x.avi", "a/../x", "ü/é.avi", "x" * 300, "", ".", "-"]
    keys = [video_key(i) for i in ids]
    assert len(set(keys)) == len(ids)
    for key in keys:
        assert len(key) <= 80
        assert key.replace("-", "").replace("_", "").isalnum()
        assert key.isascii()
    assert video_key("a/x.avi").startswith("x-")


def test_fingerprint_ignores_order_and_sees_values() -> None:
    assert fingerprint({"a": 1, "b": "x"}) == fingerprint({"b": "x", "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_an_array_describes_its_row() -> None:
    sizes = {"frames": 7, "height": 24, "width": 32}
    entry = Entry("a/x.avi", video_key("a/x.avi"), "a/x.avi", label="Run", flow="f", **sizes)
    entry = replace(entry, fps=25.0, settings="s", source_bytes=9, source_digest="d", remark="odd")
    attributes = array_attributes(entry)
    found = entry_from_array(attributes, (7, 24, 32, 3))
    assert found == replace(entry, label=None, flow=None)
    for name in attributes:
        rest = {key: value for key, value in attributes.items() if key != name}
        assert entry_from_array(rest, (7, 24, 32, 3)) is None
    assert entry_from_array({**attributes, "id": 3}, (7, 24, 32, 3)) is None

"""Options that several commands share."""

import pytest

from slic.commands.options import parse_numbers
from slic.errors import InputError


def test_numbers_keep_their_order_and_occur_once():
    assert parse_numbers("--seeds", "10,1,0,1", least=0) == [10, 1, 0]


@pytest.mark.parametrize("text", ["", "1,,5", "a", "0", "-1,5", "1.5"])
def test_other_texts_are_refused(text):
    with pytest.raises(InputError, match=f"--k {text}"):
        parse_numbers("--k", text, least=1)

from hypothesis import given
from hypothesis import strategies as st

from backfill_assets.domain.text import plain_text
from backfill_assets_tests.support import NASTY, NASTY_SHOWN


@given(st.text(st.characters(), max_size=60) | st.text(st.sampled_from(NASTY)))
def test_plain_text_is_one_line_of_all_printable_characters(text):
    plain = plain_text(text)
    assert plain.isprintable()
    assert plain == plain_text(plain) == " ".join(plain.split())
    assert plain.replace(" ", "") == "".join(c for c in text if c.isprintable() and c != " ")


def test_escape_sequences_and_marks_that_turn_text_round_are_gone():
    assert plain_text(NASTY) == NASTY_SHOWN

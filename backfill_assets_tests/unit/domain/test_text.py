from hypothesis import given
from hypothesis import strategies as st

from backfill_assets.domain.text import plain_text, suggestion
from backfill_assets_tests.support import NASTY, NASTY_SHOWN


@given(st.text(st.characters(), max_size=60) | st.text(st.sampled_from(NASTY)))
def test_plain_text_is_one_line_of_all_printable_characters(text):
    plain = plain_text(text)
    assert plain.isprintable()
    assert plain == plain_text(plain) == " ".join(plain.split())
    assert plain.replace(" ", "") == "".join(c for c in text if c.isprintable() and c != " ")


def test_escape_sequences_and_marks_that_turn_text_round_are_gone():
    assert plain_text(NASTY) == NASTY_SHOWN


def test_a_suggestion_is_the_name_that_is_probably_meant_in_its_own_case():
    known = ["AAPL", "MSFT", "Brk.B"]
    assert [suggestion(name, known) for name in ("APPL", "aapl", "BRK.B", "msf")] == [
        "did you mean AAPL?",
        "did you mean AAPL?",
        "did you mean Brk.B?",
        "did you mean MSFT?",
    ]
    assert suggestion("X", known) == "there are AAPL, MSFT, Brk.B."
    assert suggestion("X", []) == "there are none."
    assert suggestion("?", [f"S{n}" for n in range(12)]).endswith("S9 and 2 more.")


@given(st.text(max_size=8), st.lists(st.text(min_size=1, max_size=8), max_size=12))
def test_a_suggestion_ends_a_sentence(name, known):
    assert suggestion(name, known).endswith(("?", "."))

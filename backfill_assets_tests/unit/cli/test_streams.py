"""What a command with --demo prints: the commands that it advises have --demo too."""

import io

import pytest

from backfill_assets.cli.streams import LossyFile, lossy_text


@pytest.mark.parametrize(
    ("written", "printed"),
    [
        ("To fetch now: `backfill repair`.", "To fetch now: `backfill repair --demo`."),
        ("see `backfill gaps`, `backfill status`", "see `backfill gaps --demo`, `backfill status --demo`"),
        (
            "To fetch them now:\n  backfill repair --symbols A\n",
            "To fetch them now:\n  backfill repair --symbols A --demo\n",
        ),
        ('"repair": "backfill repair --symbols A"', '"repair": "backfill repair --symbols A --demo"'),
        ("  Repair: backfill up\n", "  Repair: backfill up --demo\n"),
        (
            "`backfill up --demo` starts it. The backfill failed.",
            "`backfill up --demo` starts it. The backfill failed.",
        ),
        ("See `backfill run --help`.", "See `backfill run --help`."),
        ("  .venv/bin/backfill up\n", "  .venv/bin/backfill up\n"),
    ],
)
def test_every_command_that_is_printed_has_the_option(tmp_path, written, printed):
    for demo, expected in ((True, printed), (False, written)):
        with lossy_text(LossyFile(tmp_path / "out", "w"), io.TextIOWrapper(io.BytesIO(), "utf-8"), demo=demo) as stream:
            stream.write(written)
            with lossy_text(LossyFile(tmp_path / "copy", "w"), stream) as copy:
                copy.write(written)
        for name in ("out", "copy"):
            assert (tmp_path / name).read_text(encoding="utf-8") == expected

"""docs/howto/add-an-indicator.md, carried out on a copy of the package, over bars that were stored before."""

import os
import re
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np

import backfill_assets
from backfill_assets_tests.support import KEY, rows, vendor, vendor_server

__all__ = ["vendor", "vendor_server"]

PACKAGE = Path(backfill_assets.__file__).parent
HOWTO = PACKAGE.parent / "docs/howto/add-an-indicator.md"

ARITHMETIC = '''

def hull(close: Float, n: int) -> Float:
    """Compute the moving average of Alan Hull: of n bars, weighted."""
    return _weighted(2 * _weighted(close, n // 2) - _weighted(close, n), round(n**0.5))


def _weighted(values: Float, n: int) -> Float:
    weights = np.arange(1, n + 1) / (n * (n + 1) / 2)
    found = np.full(len(values), np.nan)
    for row in range(n - 1, len(values)):
        found[row] = values[row - n + 1 : row + 1] @ weights
    return found
'''
ENTRY = """    _one(
        Column("hma_20", "price", "Hull's moving average of 20 closes", 22, PRICE),
        "alanhull.com",
        lambda w: ta.hull(w.close, 20),
    ),
)
"""


def weighted(values):
    """The weighted mean of the last rows, written from the definition."""
    n = len(values)
    return sum(value * weight for weight, value in enumerate(values, 1)) / (n * (n + 1) / 2)


def edit(path, change):
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


def carry_out(copy):
    """Change the copy of the package as the page says."""
    edit(copy / "domain/indicators.py", lambda text: text + ARITHMETIC)
    edit(
        copy / "domain/features/catalog.py",
        lambda text: text.replace(')\n"""Every feature', f'{ENTRY}"""Every feature'),
    )
    folder = copy / "adapters/store/migrations/versions"
    newest = max(path.name[:4] for path in folder.glob("0*.py"))
    view = re.search(
        r"create view market_data_v2 as.*?(?=\"\"\")", (folder / "0005_features.py").read_text("utf-8"), re.DOTALL
    )
    body = re.search(r"```python\n(.*?)```", HOWTO.read_text(encoding="utf-8"), re.DOTALL)[1]
    body = "\n".join(line.removeprefix("   ") for line in body.splitlines())
    recreated = view[0].replace("f.log_return,", "f.log_return, f.hma_20,", 1).rstrip()
    body = re.sub(r'op.execute\("create view market_data_v2 as …"\)[^\n]*', f'op.execute("""{recreated}""")', body)
    number = f"{int(newest) + 1:04}"
    header = f'"""Add hma_20."""\n\nfrom alembic import op\n\nrevision = "{number}"\ndown_revision = "{newest}"\n\n\n'
    (folder / f"{number}_hma.py").write_text(header + body, encoding="utf-8")
    edit(copy / "adapters/store/schema.py", lambda text: text.replace(f'NEEDED = "{newest}"', f'NEEDED = "{number}"'))


def test_the_page_adds_a_column_and_stored_bars_get_its_values(tmp_path, dagster_database_url, vendor):
    universe = tmp_path / "universe.yaml"
    universe.write_text("markets: {stocks: {start: 2024-01-02, symbols: [AAPL], timeframes: [1d]}}", encoding="utf-8")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "DAGSTER_HOME": str(PACKAGE.parent),
        "BACKFILL_DATA_DIR": str(tmp_path / "data"),
        "BACKFILL_UNIVERSE": str(universe),
        "DATABASE_URL": dagster_database_url,
        "POLYGON_BASE_URL": vendor.url,
        "POLYGON_API_KEY": KEY,
        "POLYGON_REQUESTS_PER_SECOND": "200",
    }

    def backfill(folder, *arguments, code=0):
        command = [sys.executable, "-c", "from backfill_assets.cli.app import main; main()", *arguments]
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment | {"PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr + done.stdout

    backfill(PACKAGE.parent, "run", "--start", "2024-01-02", "--end", "2024-03-28", "--features", code=0)
    copy = tmp_path / "changed/backfill_assets"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    carry_out(copy)
    backfill(copy.parent, "features", code=1)
    backfill(copy.parent, "db", "upgrade")
    backfill(copy.parent, "features", "--start", "2024-01-02", "--end", "2024-03-28")
    found = rows(dagster_database_url, "select close, hma_20 from market_data_v2 order by timestamp")
    closes = [close for close, _ in found]
    assert len(closes) == len(vendor.market.daily_bars("AAPL", date(2024, 1, 2), date(2024, 3, 28)))
    for row, (_, value) in enumerate(found):
        if row < 22:
            assert value is None
            continue
        inner = [
            2 * weighted(closes[r - 9 : r + 1]) - weighted(closes[r - 19 : r + 1]) for r in range(row - 3, row + 1)
        ]
        np.testing.assert_allclose(value, weighted(inner), rtol=1e-9)

"""What importing pandas-ta does, each case in a process of its own."""

import os
import subprocess
import sys
from functools import cache

from backfill_assets.deployment.environment import NUMBA_CACHE
from backfill_assets_tests.support import PROJECT


@cache
def output_of(program, path=None):
    """Run a program in a process of its own, with numba's compiled kernels cached for all of them."""
    environment = os.environ | {NUMBA_CACHE: str(PROJECT / ".pytest_cache" / "numba")}
    if path:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


SOME = """
import numpy as np
from backfill_assets.domain import indicators as ta
x = np.cumsum(np.ones(50))
print(ta.sma(x, 5)[-1], ta.roc(x, 10)[-1], ta.ema(x, 5)[-1], ta.wilder(x, 5, 0)[-1], ta.williams_r(x + 1, x, x, 9)[-1])
"""


def test_pandas_ta_is_imported_by_the_first_use_and_leaves_the_warnings_alone():
    program = f"""
import sys, warnings
import backfill_assets.domain.features
assert "pandas_ta" not in sys.modules and "numba" not in sys.modules
before = list(warnings.filters)
{SOME}
assert "pandas_ta" in sys.modules
assert list(warnings.filters) == before
"""
    assert output_of(program) == output_of(SOME)


def test_without_a_folder_for_its_kernels_they_are_compiled_in_memory():
    nowhere = "from numba.core import caching\ncaching.CacheImpl._locator_classes = []\n"
    one = (
        "import numpy as np\nfrom backfill_assets.domain import indicators as ta\nprint(ta.sma(np.arange(9.0), 5)[-1])"
    )
    assert output_of(nowhere + one) == "6.0"


def test_an_installed_ta_lib_changes_nothing(tmp_path):
    (tmp_path / "talib.py").write_text("raise ImportError('it must not be imported')", encoding="utf-8")
    assert output_of(SOME, tmp_path) == output_of(SOME)

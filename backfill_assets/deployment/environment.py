"""Environment variables that Dagster and numba read, set where a process starts."""

from __future__ import annotations

import os

from backfill_assets.adapters.private_files import make_private_folder
from backfill_assets.adapters.settings import Settings
from backfill_assets.domain.errors import SettingMistake

BATCH_SIZE = "DAGSTER_EVENT_BATCH_SIZE"
NUMBA_CACHE = "NUMBA_CACHE_DIR"


def set_defaults() -> None:
    """Set the size of event batches and numba's cache folder for this process and its children, unless they are set.

    Dagster takes the batch size from the environment only; without it a run over 775 partitions takes 30 s to record instead
    of 9 s (see also `storage.MarketEventLogStorage`).

    numba reads its folder when it is imported. Where the package's folder is read-only, every process would otherwise
    compile the kernels again, for four seconds. A folder that cannot be written to, or is another user's, changes nothing.

    Raises SettingMistake.
    """
    os.environ.setdefault(BATCH_SIZE, "1000")
    if os.environ.get(NUMBA_CACHE):
        return
    folder = Settings.read().data / "numba"
    try:
        make_private_folder(folder)  # code is loaded from it, so only its owner may write to it
    except (OSError, SettingMistake):
        return
    if os.access(folder, os.W_OK | os.X_OK):
        os.environ[NUMBA_CACHE] = str(folder)

"""What a run failed with, as one sentence.

What lives here: finding the cause in Dagster's records. What does not: what follows from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import dagster as dg


@dataclass(frozen=True, slots=True)
class RunFailure:
    """The innermost cause of a run's failure, without its stack.

    kind     the name of the error's type; empty where the run ended without one, as when its process died
    """

    sentence: str
    kind: str = ""


def failure_of(instance: dg.DagsterInstance, run_id: str) -> RunFailure:
    """Why a failed run failed."""
    types = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
    said = ""
    for entry in instance.all_logs(run_id, of_type=types):
        event = entry.dagster_event
        if event is None:
            continue
        error = getattr(event.event_specific_data, "error", None)  # none where somebody else reported the run failed
        while error is not None and error.cause is not None:
            error = error.cause
        if error is not None:
            return RunFailure(" ".join(error.message.split(": ", 1)[-1].split()), error.cls_name or "")
        said = event.message or said
    return RunFailure(" ".join(said.split()) or "The run ended without a word; see its log in Dagit.")

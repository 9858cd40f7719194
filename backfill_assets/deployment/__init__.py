"""The classes that `dagster.yaml` names, and every use of Dagster's private API.

Other packages import no `dagster._*` module; they call the functions here.
"""

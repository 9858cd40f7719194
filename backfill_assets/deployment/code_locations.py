"""A workspace's code locations, each on a code server of its own that all of Dagster's programs share.

Dagster's webserver and daemon each start a code server for a Python module that workspace.yaml names, and the daemon a new
one every minute (`RELOAD_WORKSPACE_INTERVAL` of dagster/_daemon/controller.py in 1.13). A server that is started beforehand,
and named to both by its socket, loads the code once, and anew when it is asked to. `dagster dev` does so too.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from dagster._check import CheckError
from dagster._core.errors import DagsterInvalidConfigError, DagsterUserCodeUnreachableError
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, ManagedGrpcPythonEnvCodeLocationOrigin
from dagster._core.workspace.load import location_origins_from_yaml_paths
from dagster._grpc.client import DagsterGrpcClient

from backfill_assets.domain.errors import SettingMistake


@dataclass(frozen=True, slots=True)
class CodeLocation:
    """One of a workspace: where it is served, and how a server of it is started where none is named."""

    name: str
    address: Mapping[str, object]
    command: tuple[str, ...] | None

    def served_at(self, socket: Path) -> CodeLocation:
        """The same on a server with this socket; one that is served already stays as it is."""
        if self.command is None:
            return self
        # A host is demanded, and no part of a socket's address.
        return CodeLocation(self.name, {**self.address, "host": "localhost", "socket": str(socket)}, None)


def code_locations(workspace: Path) -> list[CodeLocation]:
    """What a workspace file names, in its order. Raises SettingMistake where Dagster cannot read it."""
    try:
        origins = location_origins_from_yaml_paths([str(workspace)])
    except DagsterInvalidConfigError as error:
        raise SettingMistake(_not_read(workspace, error.errors[0].message.partition(" Expected: ")[0])) from None
    except (CheckError, yaml.YAMLError, OSError) as error:
        raise SettingMistake(_not_read(workspace, str(error).rpartition("Description: ")[2])) from None
    found = []
    for origin in origins:
        if isinstance(origin, ManagedGrpcPythonEnvCodeLocationOrigin):
            target = origin.loadable_target_origin
            other_python = ("--use-python-environment-entry-point",) if target.executable_path else ()
            command = (target.executable_path or sys.executable, "-m", "dagster", "code-server", "start")
            loads = (*other_python, "--location-name", origin.location_name, *target.get_cli_args())
            address: dict[str, object] = {"additional_metadata": target.as_dict}
            found.append(CodeLocation(origin.location_name, address, (*command, *loads)))
        elif isinstance(origin, GrpcServerCodeLocationOrigin):
            address = {
                "host": origin.host,
                "port": origin.port,
                "socket": origin.socket,
                "ssl": origin.use_ssl,
                "additional_metadata": origin.additional_metadata,
            }
            found.append(CodeLocation(origin.location_name, address, None))
        else:
            raise TypeError(f"no way to serve a {type(origin).__name__}")
    return found


def _not_read(workspace: Path, why: str) -> str:
    return f"{workspace} cannot be read as a workspace of Dagster: {' '.join(why.split()).removesuffix('.')}."


def workspace_of(locations: Iterable[CodeLocation]) -> str:
    """A workspace file's text that names their servers."""
    named = [
        {k: v for k, v in (("location_name", one.name), *one.address.items()) if v is not None} for one in locations
    ]
    return json.dumps({"load_from": [{"grpc_server": one} for one in named]})  # JSON is YAML


def reload_code(socket: Path, seconds: int) -> bool:
    """Have the code server of a socket load its code anew, for which it gets so long; whether it has.

    Whoever uses it notices. Runs of the code before go on with it. Where the code cannot be loaded, Dagit shows why.
    """
    try:
        DagsterGrpcClient(socket=str(socket)).reload_code(timeout=seconds)
    except DagsterUserCodeUnreachableError:
        return False
    return True

"""The code locations of a workspace, and the commands that start their code servers."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import yaml
from dagster._check import CheckError
from dagster._core.errors import DagsterInvalidConfigError, DagsterUserCodeUnreachableError
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, ManagedGrpcPythonEnvCodeLocationOrigin
from dagster._core.workspace.load import location_origins_from_yaml_paths
from dagster._grpc.client import DagsterGrpcClient

from backfill_assets.domain.errors import SettingMistake

_RELOAD_SECONDS = 180
"""Dagster's limit for loading code: DEFAULT_LOCAL_CODE_SERVER_STARTUP_TIMEOUT."""


def code_locations(workspace: Path, folder: Path) -> tuple[list[dict[str, object]], dict[Path, tuple[str, ...]]]:
    """Read a workspace file.

    Returns the `grpc_server` entry of each code location, and by socket the commands that start those that the file names by
    their code. The sockets are in `folder`. Raises SettingMistake if Dagster cannot read the file.
    """
    try:
        origins = location_origins_from_yaml_paths([str(workspace)])
    except (CheckError, DagsterInvalidConfigError, yaml.YAMLError, OSError) as error:
        reason = error.errors[0].message if isinstance(error, DagsterInvalidConfigError) else str(error)
        reason = " ".join(reason.partition(" Expected: ")[0].rpartition("Description: ")[2].split())
        raise SettingMistake(f"Dagster cannot read {workspace}: {reason.removesuffix('.')}.") from None
    servers: list[dict[str, object]] = []
    commands: dict[Path, tuple[str, ...]] = {}
    for number, origin in enumerate(origins):
        if isinstance(origin, ManagedGrpcPythonEnvCodeLocationOrigin):
            target, socket = origin.loadable_target_origin, folder / f"{number}.sock"
            commands[socket] = (
                *(target.executable_path or sys.executable, "-m", "dagster", "code-server", "start", "-s", str(socket)),
                *(("--use-python-environment-entry-point",) if target.executable_path else ()),
                *("--location-name", origin.location_name, *target.get_cli_args()),
            )
            # Dagster requires a host beside the socket, and ignores it.
            where: dict[str, object] = {"host": "localhost", "socket": str(socket)}
            where["additional_metadata"] = target.as_dict
        elif isinstance(origin, GrpcServerCodeLocationOrigin):
            where = {"host": origin.host, "port": origin.port, "socket": origin.socket, "ssl": origin.use_ssl}
            where["additional_metadata"] = origin.additional_metadata
        else:
            raise TypeError(f"unknown kind of code location: {type(origin).__name__}")
        where["location_name"] = origin.location_name
        servers.append({k: v for k, v in where.items() if v is not None})
    return servers, commands


def reload_code(socket: Path) -> None:
    """Make a code server load its code again; its clients notice. Runs that have started keep the old code.

    Does nothing if the server cannot be reached. If the code cannot be loaded, the Dagster UI shows why.
    """
    with suppress(DagsterUserCodeUnreachableError):
        DagsterGrpcClient(socket=str(socket)).reload_code(timeout=_RELOAD_SECONDS)

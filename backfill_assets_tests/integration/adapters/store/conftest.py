"""Databases without migrations."""

import uuid
from urllib.parse import urlsplit

import psycopg
import pytest


@pytest.fixture
def empty_database(postgres_server):
    """The URL of an empty database."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_server, autocommit=True) as server:
        server.execute(f"create database {name} strategy file_copy")
        try:
            yield urlsplit(postgres_server)._replace(path=f"/{name}").geturl()
        finally:
            server.execute(f"drop database {name} with (force)")

"""The database's URL as SQLAlchemy takes it."""

from __future__ import annotations

from sqlalchemy.engine import URL, make_url


def sqlalchemy_url(url: str, driver: str = "psycopg") -> URL:
    """The URL for SQLAlchemy with a driver: psycopg (3) for ours, psycopg2 for Dagster, which listens through it."""
    return make_url(url).set(drivername=f"postgresql+{driver}")

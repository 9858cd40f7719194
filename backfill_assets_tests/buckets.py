"""A bucket of moto's S3 server."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer


@contextmanager
def bucket(name: str, key_id: str, secret: str) -> Iterator[Any]:
    """Make an empty bucket on a server of its own; yield boto3's client. All servers of a process share their buckets."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    client = boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id=key_id, aws_secret_access_key=secret
    )
    try:
        client.create_bucket(Bucket=name)
        yield client
    finally:
        httpx.post(f"{url}/moto-api/reset", trust_env=False)
        client.close()
        server.stop()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The bucket `market-data`, which the AWS_ variables name."""
    key_id, secret = "the-key-id", "the-secret-key"
    with bucket("market-data", key_id, secret) as client:
        for name, value in {
            "AWS_ENDPOINT_URL": client.meta.endpoint_url,
            "AWS_ACCESS_KEY_ID": key_id,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        yield client

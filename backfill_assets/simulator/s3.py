"""The server of flat files: as much of S3 as lists and reads objects. Of a signature only the access key id is checked."""

from __future__ import annotations

import re
from email.utils import format_datetime
from itertools import islice
from xml.sax.saxutils import escape

from starlette.requests import Request
from starlette.responses import Response

from backfill_assets.simulator.flat_files import BUCKET, File
from backfill_assets.simulator.responses import CutBody
from backfill_assets.simulator.scenario import Fault
from backfill_assets.simulator.state import SimulatorState

_KEY_ID = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/,]+)/")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


def answer(state: SimulatorState, request: Request, fault: Fault | None) -> Response:
    """Answer a list of objects, or GET and HEAD of one."""
    found = _KEY_ID.match(request.headers.get("authorization", ""))
    if found is None:
        return _error(403, "AccessDenied")
    accepted = state.scenario.file_keys
    if accepted and found[1] not in accepted:
        return _error(403, "InvalidAccessKeyId")
    key = request.path_params.get("key", "")
    return _object(state, request, key, fault) if key else _list(state, request)


def _list(state: SimulatorState, request: Request) -> Response:
    query = request.query_params
    prefix, most = query.get("prefix", ""), min(int(query.get("max-keys", "1000")), 1000)
    after = query.get("continuation-token") or query.get("start-after", "")
    if not state.files.allows(prefix):
        return _error(403, "AccessDenied")
    files = list(islice((f for f in state.files.find(prefix) if f.key > after), most + 1))
    more, files = len(files) > most, files[:most]
    token = f"<NextContinuationToken>{escape(files[-1].key)}</NextContinuationToken>" if more and files else ""
    contents = "".join(
        f"<Contents><Key>{escape(f.key)}</Key><LastModified>{f.modified:%Y-%m-%dT%H:%M:%S.000Z}</LastModified>"
        f"<ETag>{escape(f.etag, {chr(34): '&quot;'})}</ETag><Size>{f.size}</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
        for f in files
    )
    return _xml(
        f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>{BUCKET}</Name>'
        f"<Prefix>{escape(prefix)}</Prefix><KeyCount>{len(files)}</KeyCount><MaxKeys>{most}</MaxKeys>"
        f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{contents}</ListBucketResult>"
    )


def _object(state: SimulatorState, request: Request, key: str, fault: Fault | None) -> Response:
    file = next((f for f in state.files.find(key) if f.key == key), None)
    if file is None or not state.files.allows(key) or any(f.kind == "refused" for f in file.faults):
        return _error(403, "AccessDenied")  # also for what does not exist
    if request.headers.get("if-match", file.etag) != file.etag:
        return _error(412, "PreconditionFailed")
    return _content(state, request, file, fault)


def _content(state: SimulatorState, request: Request, file: File, fault: Fault | None) -> Response:
    headers = {
        "ETag": file.etag,
        "Last-Modified": format_datetime(file.modified, usegmt=True),
        "Accept-Ranges": "bytes",
    }
    if request.method == "HEAD":
        return Response(None, 200, headers | {"Content-Length": str(file.size)}, "application/gzip")
    body, status = state.files.content(file), 200
    if part := _RANGE.fullmatch(request.headers.get("range", "")):
        first, last = int(part[1]), min(int(part[2] or file.size), file.size - 1)
        if first > last:
            return _error(416, "InvalidRange")
        body, status = body[first : last + 1], 206
        headers["Content-Range"] = f"bytes {first}-{last}/{file.size}"
    kind = CutBody if fault is not None and fault.kind == "cut_body" else Response
    return kind(body, status, headers, "application/gzip")


def _error(status: int, code: str) -> Response:
    return _xml(f"<Error><Code>{code}</Code><Message>{code}</Message></Error>", status)


def _xml(text: str, status: int = 200) -> Response:
    return Response(f'<?xml version="1.0" encoding="UTF-8"?>{text}', status, media_type="application/xml")

"""Reads the images of a request: files of a multipart form, or the whole body as one image."""

from typing import NamedTuple

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message, Receive

from analysis.serving.settings import Limits

BODY_NAME = "body"
"""Name of the image that is a raw body."""
LONGEST_NAME = 200
"""Characters of a file's name that are told again."""


class Upload(NamedTuple):
    """The images of one request."""

    names: list[str]
    images: list[bytes]


async def read_upload(request: Request, limits: Limits) -> Upload:
    """The images of a request; HTTPException 413 beyond a limit, 400 where there is no image."""
    check_length(request, limits.max_bytes)
    limited = Request(request.scope, limited_receive(request.receive, limits.max_bytes))
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    upload = await read_form(limited) if kind == "multipart/form-data" else await read_body(limited)
    if len(upload.images) > limits.max_images:
        raise HTTPException(413, f"{len(upload.images)} images; the limit is {limits.max_images} a request")
    return upload


def check_length(request: Request, max_bytes: int) -> None:
    """Refuse a body by what its header says, before it is read."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > max_bytes:
        raise too_large(max_bytes)


def limited_receive(receive: Receive, max_bytes: int) -> Receive:
    """The same messages, until the bytes of the body are too many."""
    received = 0

    async def counted() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > max_bytes:
            raise too_large(max_bytes)
        return message

    return counted


def too_large(max_bytes: int) -> HTTPException:
    """What is answered where the body is too large."""
    return HTTPException(413, f"the body has more than {max_bytes:,} bytes, which is the limit")


async def read_form(request: Request) -> Upload:
    """All files of a form, whatever the fields are called."""
    async with request.form() as form:
        fields = form.multi_items()
        for name, value in fields:
            if not isinstance(value, UploadFile):
                raise HTTPException(400, f"the field {name[:LONGEST_NAME]!r} is no file; send images as files")
        files = [value for _, value in fields if isinstance(value, UploadFile)]
        if not files:
            raise HTTPException(400, "the form has no file; send images as files of a multipart form")
        names = [(file.filename or "")[:LONGEST_NAME] for file in files]
        return Upload(names, [await file.read() for file in files])


async def read_body(request: Request) -> Upload:
    """The body as one image."""
    body = await request.body()
    if not body:
        raise HTTPException(400, "the body is empty; send an image, or a multipart form with files")
    return Upload([BODY_NAME], [body])

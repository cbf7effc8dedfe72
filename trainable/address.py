"""Folders by address: a path of this machine, or s3://bucket/folder and whatever else fsspec knows.

Credentials, region and endpoint are the usual environment variables and files of the storage's own client, for S3
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_DEFAULT_REGION and AWS_ENDPOINT_URL.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from trainable.errors import UsageError, UserError

if TYPE_CHECKING:
    from upath import UPath

    Place: TypeAlias = Path | UPath
    """A file or folder, here or elsewhere; both have pathlib's methods."""

ERRORS_OF_OUTAGES = {"ConnectionError", "HTTPClientError", "TimeoutError", "ClientConnectorError", "ClientPayloadError"}
"""Classes, and bases of classes, that a storage's client raises where it gets no answer."""
OUTAGES = (
    *("ServiceUnavailable", "SlowDown", "InternalError"),
    *("NETWORK_CONNECTION", "SERVICE_UNAVAILABLE", "SLOW_DOWN", "INTERNAL_FAILURE", "REQUEST_TIMEOUT"),
)
"""What S3 and its clients, fsspec's and then Arrow's, call what may be over in a while."""
Result = TypeVar("Result")

PATIENCE_S = 300
"""How long a storage that doesn't answer is tried again, in seconds."""
LONGEST_PAUSE_S = 10
REGIONS = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraint", "301")
"""What S3 says to a request that names another region than the bucket's."""


def is_address(text: str | Path) -> bool:
    """Whether it names storage by a protocol, such as s3://bucket/folder, and isn't a plain path."""
    return "://" in str(text)


def open_place(text: str | Path, option: str) -> "Place":
    """The folder or file at a path or an address; nothing is asked of a storage yet.

    Raises:
        UsageError: `option`, which gave the text, names a protocol that isn't known, or whose library is missing.
    """
    if not is_address(text):
        return Path(text).absolute()
    protocol, _, rest = str(text).partition("://")
    named = f"{option} {text}".strip()
    if protocol == "file":
        return Path(rest).absolute()
    if re.match(r"[^/]*:[^/]*@", rest):
        raise UsageError(f"{option} {protocol}://...: holds a password; the storage's own variables do")
    if not rest.strip("/"):
        raise UsageError(f"{named}: name a bucket: {protocol}://BUCKET/FOLDER")
    from upath import UPath  # a tenth of a second

    try:
        place = UPath(str(text).rstrip("/"), use_listings_cache=False)  # others write there too
        place.fs  # noqa: B018 imports the library that knows the protocol
    except ValueError:
        raise UsageError(f"{named}: {protocol}:// is no storage that is known here; try s3://") from None
    except ImportError as error:
        raise UsageError(f"{named}: another library is needed: {error}") from None
    return place


@contextmanager
def storage_errors(option: str, text: object) -> Iterator[None]:
    """UserError, in one line with what to do, in place of what a storage's client raises."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if (reason := why(error)) is None:
            raise
        raise UserError(f"{option} {text}: {reason}".strip()) from None


def why(error: BaseException) -> str | None:
    """What is wrong with a storage, and what to do; None where the error says nothing of one."""
    causes = [error, error.__cause__, error.__context__]
    names = {type(each).__name__ for each in causes if each is not None}
    words = " ".join(str(each) for each in causes if each is not None)
    if any(name in words for name in REGIONS):
        return "is in another region; set AWS_DEFAULT_REGION to the bucket's"
    if "NoSuchBucket" in words or "bucket does not exist" in words:
        return "there is no such bucket; make it, or mend the address"
    if names & {"NoCredentialsError", "PartialCredentialsError"}:
        return "no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run `aws configure`"
    if "PermissionError" in names or any(word in words for word in ("AccessDenied", "Forbidden", "InvalidAccessKeyId")):
        return "access is denied; check the credentials, and that they may list, read, write and delete there"
    if is_outage(error):
        return "doesn't answer; check the address (AWS_ENDPOINT_URL) and the network"
    return "is not there" if "FileNotFoundError" in names else None


def delete_tree(folder: "Place") -> None:
    """Delete a folder with what is in it."""
    if isinstance(folder, Path):
        shutil.rmtree(folder)
    else:
        folder.fs.rm(folder.path, recursive=True)


def is_outage(error: BaseException) -> bool:
    """Whether a storage didn't answer, or said that it can't now: what may be over in a while."""
    names = {base.__name__ for each in (error, error.__cause__) if each is not None for base in type(each).__mro__}
    return bool(names & ERRORS_OF_OUTAGES) or any(word in str(error) for word in OUTAGES)


def patiently(action: Callable[[], Result], patience_s: float = PATIENCE_S) -> Result:
    """The result of `action`, which is tried again while its storage doesn't answer; then what it raised last."""
    from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential_jitter

    retrying = Retrying(
        retry=retry_if_exception(is_outage),
        stop=stop_after_delay(patience_s),
        wait=wait_exponential_jitter(multiplier=0.5, max=LONGEST_PAUSE_S),
        reraise=True,
    )
    return retrying(action)

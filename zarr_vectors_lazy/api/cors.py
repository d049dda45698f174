"""What a bucket must allow for viewers in a browser, such as Neuroglancer."""

from collections.abc import Sequence
from typing import Any, Literal

from zarr_vectors_lazy.errors import SelectionError

METHODS = ["GET", "HEAD"]
EXPOSED = ["Accept-Ranges", "Content-Encoding", "Content-Length", "Content-Range", "Content-Type", "ETag"]
SECONDS = 3600


def cors(service: Literal["s3", "gcs", "azure"], *, origins: Sequence[str] = ("*",)) -> Any:
    """Return the cross-origin configuration that lets a viewer in a browser read a bucket, byte ranges included.

    Parameters
    ----------
    service
        ``"s3"``: what S3's PutBucketCors takes. ``"gcs"``: what Google's buckets take as ``cors``. ``"azure"``: what
        the blob service of a storage account takes as ``cors``.
    origins
        Sites that may read; by default any.

    Returns
    -------
    dict or list
        In the service's own form; ``json.dumps`` makes a file of it that the service's command line tool takes.

    Raises
    ------
    SelectionError
        If the service is another one, or an origin is no text.
    """
    if isinstance(origins, str) or not all(isinstance(origin, str) for origin in origins) or not origins:
        raise SelectionError(f"origins= must be a list of sites like 'https://example.org', found {origins!r}")
    allowed = list(origins)
    match service:
        case "s3":
            rule = {
                "AllowedOrigins": allowed,
                "AllowedMethods": [*METHODS],
                "AllowedHeaders": ["*"],
                "ExposeHeaders": [*EXPOSED],
                "MaxAgeSeconds": SECONDS,
            }
            return {"CORSRules": [rule]}
        case "gcs":  # Google names the headers that a request may carry and those that a page may see in one list
            headers = [*EXPOSED, "Authorization", "Range"]
            return [{"origin": allowed, "method": [*METHODS], "responseHeader": headers, "maxAgeSeconds": SECONDS}]
        case "azure":
            azure = {
                "allowedOrigins": allowed,
                "allowedMethods": [*METHODS, "OPTIONS"],
                "allowedHeaders": ["*"],
                "exposedHeaders": ["*"],
                "maxAgeInSeconds": SECONDS,
            }
            return {"corsRules": [azure]}
    raise SelectionError(f"service must be 's3', 'gcs' or 'azure', found {service!r}")

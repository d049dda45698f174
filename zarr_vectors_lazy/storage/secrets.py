"""What may be shown of options and URLs: secrets never reach a repr, a token, an error or a log."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
QUERY = "url_query"
"""Option that holds the query of an ``http(s)://`` URL."""

# Named so that a new option of a backend is rather hidden than shown.
_SECRET = re.compile(
    r"key|secret|token|passw|pwd|credential|sas|auth|header|cookie|private|cert|account_json|signature|user|session"
    r"|passphrase|proxy|query"
)
_SIGNED = re.compile(r"(?i)((?:x-amz-|x-goog-|\b)(?:signature|credential|security-token|sig|se|sv)=)[^&\s\"']+")
_HARMLESS = frozenset(
    {"skip_signature", "aws_skip_signature", "google_skip_signature", "azure_skip_signature", "proxy_excludes"}
)
_HARMLESS_PARTS = ("accountname", "blobendpoint", "endpointsuffix", "defaultendpointsprotocol", "usedevelopmentstorage")


def is_secret(name: str) -> bool:
    """Whether the value of option ``name`` could be a secret."""
    name = name.lower()
    return name not in _HARMLESS and _SECRET.search(name) is not None


def shown(name: str, value: object) -> object:
    """``value`` of option ``name`` without its secrets."""
    if name.lower() == "connection_string" and isinstance(value, str):
        parts = (part for part in value.split(";") if part.partition("=")[0].strip().lower() in _HARMLESS_PARTS)
        return ";".join([*parts, HIDDEN])
    if is_secret(name):
        return HIDDEN
    if isinstance(value, Mapping):
        return {key: shown(str(key), item) for key, item in value.items()}
    return clean_url(value) if isinstance(value, str) and "://" in value else value


def clean_url(url: str) -> str:
    """``url`` without user, password, query and fragment: to be shown, never to be reached."""
    scheme, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    authority, slash, path = rest.partition("/")
    # abfs://container@account.dfs...: what stands before the @ is a container, not a user.
    if separator and not scheme.lower().startswith("abfs"):
        authority = authority.rpartition("@")[2]
    return f"{scheme}{separator}{authority}{slash}{path}"


def fingerprint(value: object) -> str:
    """Return what tells one secret from another and does not tell it."""
    return hashlib.sha256(str(value).encode()).hexdigest()[:16]


def without_secrets(text: str, options: Mapping[str, Any]) -> str:
    """``text`` (of somebody else's error) with every secret value of ``options`` struck out."""
    if options.get(QUERY):
        text = re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\")]*", rf"\1?{HIDDEN}", text)
    for name, value in options.items():
        if isinstance(value, Mapping):
            text = without_secrets(text, value)
        elif isinstance(value, str) and len(value) > 3 and is_secret(name):
            text = text.replace(value, HIDDEN)
    return _SIGNED.sub(r"\1***", text)

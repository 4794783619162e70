"""Shows where a database URL points without what it may hold of a password. Pure.

In doubt nothing is shown: a password may stand where the URL's writer did not mean it to,
and a character in it that should have been encoded moves the borders of all parts.
"""

import re
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

_WORD = re.compile(r"[\w.-]{0,32}", re.ASCII)
_PLACE = r"(?:[^\s:@\[\]]*|\[[0-9A-Fa-f:.%]+\])(?::[0-9]*)?"
_PLACES = re.compile(rf"{_PLACE}(?:,{_PLACE})*")
_HARMLESS = frozenset(
    {"host", "hostaddr", "port", "dbname", "user", "sslmode", "application_name"}
    | {"connect_timeout", "target_session_attrs"}
)
_PAIR = re.compile(r"(?<!\S)(?:host|hostaddr|port|dbname|user)=[\w./:-]+(?!\S)", re.ASCII)


def redact(url: str) -> str:
    """Give the URL with `***` for its password, or words for what cannot be shown."""
    if _WORD.fullmatch(url):
        return url  # a misspelt "embedded"
    if "://" not in url:
        return _without_values(url)
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(a malformed URL)"
    login, _, places = parts.netloc.rpartition("@")
    rest = unquote(parts.path + parts.query + parts.fragment)
    if "@" in rest or not _PLACES.fullmatch(places):
        return "(a malformed URL)"
    return f"{parts.scheme}://{_login(login)}{places}{parts.path}{_query(parts)}"


def _login(login: str) -> str:
    user, colon, password = login.partition(":")
    if not login:
        return ""
    return f"{user}:***@" if colon and password else f"{user}@"


def _query(parts: SplitResult) -> str:
    keys = {key for key, _ in parse_qsl(parts.query, keep_blank_values=True)}
    if not parts.query:
        return ""
    return f"?{parts.query}" if keys <= _HARMLESS else "?***"


def _without_values(text: str) -> str:
    """Show the harmless pairs of `host=h password=p`; nothing where blanks may be quoted."""
    pairs = [] if "'" in text or "\\" in text else _PAIR.findall(text)
    return " ".join(pairs) or "(a connection string)"

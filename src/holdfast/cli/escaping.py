"""Text from a store, made harmless for a terminal.

Whoever writes into a session decides what stands in it, so what is printed may hold no character
that moves a cursor, sets a colour, rings, or changes the direction of what follows. Such characters
are shown as the escapes that one would type. Nothing is printed that has not gone through here.
"""

from __future__ import annotations

import json
import re
from typing import Any

_LAST_BYTE = 0xFF

# C0, DEL and C1; line and paragraph separators; bidi overrides and isolates; lone surrogates, which
# no terminal's encoding has.
_DANGEROUS = r"\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_IN_LINE = re.compile(f"[{_DANGEROUS}]")
_IN_BODY = re.compile(f"(?![\n\t])[{_DANGEROUS}]")


def visible(text: object) -> str:
    r"""Return text for one line: every control character as an escape such as `\x1b`."""
    return _IN_LINE.sub(_escape, str(text))


def visible_body(text: str) -> str:
    """Return text of several lines: the same, but newlines and tabs stay what they are."""
    return _IN_BODY.sub(_escape, text.replace("\r\n", "\n"))


def json_text(value: Any, *, indent: int | None = 2) -> str:
    """Return a JSON document: other scripts stay readable, dangerous characters are escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    # Between strings a document holds newlines only, and inside them the encoder escapes those.
    return _IN_BODY.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if found[0] == "\n":
        return r"\n"
    return f"\\x{code:02x}" if code <= _LAST_BYTE else f"\\u{code:04x}"

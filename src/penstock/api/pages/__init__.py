"""HTML pages, each a single file without external resources."""

import base64
import hashlib
import re
from importlib.resources import files

from starlette.responses import Response

_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


class Page:
    """A page of this folder, with a content security policy that allows only its own script and its own gateway."""

    def __init__(self, name: str) -> None:
        text = files(__name__).joinpath(name).read_text("utf-8")
        self._body = text.encode()
        digests = {"script": "", "style": ""}
        for tag, inline in _INLINE.findall(text):
            digests[tag] += f" 'sha256-{base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()}'"
        self._policy = (
            f"default-src 'none'; script-src{digests['script'] or ' none'}; style-src{digests['style'] or ' none'}; "
            "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )

    def build_response(self) -> Response:
        """Return the page."""
        headers = {"content-security-policy": self._policy, "referrer-policy": "no-referrer"}
        return Response(self._body, headers=headers, media_type="text/html")

"""Errors outside the inference routes, drawn in the dialect of the path that was asked for."""

import difflib
import re
from collections.abc import Iterable

from penstock.dialects.base import Dialect
from penstock.dialects.problem_details import render_problem
from penstock.domain.errors import MethodNotAllowed, NotFound, PenstockError

_VERSION = re.compile(r"/v(\d{1,9})(/|$)")


class ErrorResponses:
    """Knows every path that is served, and whose dialect is spoken there."""

    def __init__(self, dialects: Iterable[Dialect]) -> None:
        self._prefixes: list[tuple[str, Dialect]] = []
        self._owners: dict[str, Dialect] = {}
        self._methods: dict[str, set[str]] = {}
        for dialect in dialects:
            self._prefixes.extend((prefix, dialect) for prefix in dialect.prefixes)
            for endpoint in dialect.endpoints:
                for path in endpoint.paths:
                    self._owners.setdefault(path, dialect)
                    self.add_route(path, endpoint.method)
        self._prefixes.sort(key=lambda each: len(each[0]), reverse=True)

    def add_route(self, path: str, *methods: str) -> None:
        """Take note that a path is served."""
        self._methods.setdefault(path, set()).update(methods)

    def render(self, path: str, error: PenstockError, request_id: str) -> tuple[bytes, bytes]:
        """The media type and body of an error."""
        dialect = self._owners.get(path) or self._find_by_prefix(path)
        if dialect is None:
            return b"application/problem+json", render_problem(error, request_id)
        return dialect.media_type, dialect.render_error(error, request_id)

    def build_not_found(self, path: str, method: str) -> PenstockError:
        """Why nothing is served for this path and method."""
        if allowed := self.allowed_methods(path):
            names = ", ".join(allowed)
            return MethodNotAllowed(f"{method} is not for {path}: use {names}", allow=allowed)
        version = _VERSION.match(path)
        if version and version[1] != "1":
            return NotFound(
                f"there is no version {version[1]} of this API: there is v1, under /v1/ or without a prefix"
            )
        near = difflib.get_close_matches(path, self._methods, 1, 0.75)
        hint = f"did you mean {near[0]}?" if near else "GET / lists what there is"
        return NotFound(f"there is nothing at {path[:200]}: {hint}")

    def allowed_methods(self, path: str) -> tuple[str, ...]:
        """The methods that a path is served for."""
        return tuple(sorted(self._methods.get(path, ())))

    def _find_by_prefix(self, path: str) -> Dialect | None:
        return next((dialect for prefix, dialect in self._prefixes if _is_under(path, prefix)), None)


def _is_under(path: str, prefix: str) -> bool:
    return path.startswith(prefix) if prefix.endswith("/") else path == prefix or path.startswith(f"{prefix}/")

"""Responses for errors outside the inference routes, in the dialect of the requested path."""

import difflib
import re
from collections.abc import Iterable

from penstock.dialects.base import Dialect
from penstock.dialects.problem_details import render_problem
from penstock.domain.errors import MethodNotAllowed, NotFound, PenstockError

_VERSION = re.compile(r"/v(\d{1,9})(/|$)")


class ErrorResponses:
    """Renderer of errors. It knows all paths that are served, their methods and dialects."""

    def __init__(self, dialects: Iterable[Dialect]) -> None:
        self._prefixes: list[tuple[str, Dialect]] = []
        self._dialects: dict[str, Dialect] = {}
        self._methods: dict[str, set[str]] = {}
        for dialect in dialects:
            self._prefixes.extend((prefix, dialect) for prefix in dialect.prefixes)
            for endpoint in dialect.endpoints:
                for path in endpoint.paths:
                    self._dialects.setdefault(path, dialect)
                    self.add_route(path, endpoint.method)
        self._prefixes.sort(key=lambda entry: len(entry[0]), reverse=True)

    def add_route(self, path: str, *methods: str) -> None:
        """Register a path and its methods."""
        self._methods.setdefault(path, set()).update(methods)

    def render(self, path: str, error: PenstockError, request_id: str) -> tuple[bytes, bytes]:
        """Render an error; return media type and body."""
        dialect = self._dialects.get(path) or self._find_by_prefix(path)
        if dialect is None:
            return b"application/problem+json", render_problem(error, request_id)
        return dialect.media_type, dialect.render_error(error, request_id)

    def build_not_found(self, path: str, method: str) -> PenstockError:
        """Build the error for a path or method that is not served."""
        if allowed := self.list_methods(path):
            return MethodNotAllowed(f"{path} does not support {method}. Use {', '.join(allowed)}.", allow=allowed)
        version = _VERSION.match(path)
        if version and version[1] != "1":
            return NotFound(f"Version {version[1]} of this API does not exist. Use v1, under /v1/ or without a prefix.")
        near = difflib.get_close_matches(path, self._methods, 1, 0.75)
        hint = f"Did you mean {near[0]}?" if near else "GET / lists the paths."
        return NotFound(f"Nothing is served at {path[:200]}. {hint}")

    def list_methods(self, path: str) -> tuple[str, ...]:
        """List the methods that a path supports; empty for an unknown path."""
        return tuple(sorted(self._methods.get(path, ())))

    def _find_by_prefix(self, path: str) -> Dialect | None:
        return next((dialect for prefix, dialect in self._prefixes if _is_under(path, prefix)), None)


def _is_under(path: str, prefix: str) -> bool:
    return path.startswith(prefix) if prefix.endswith("/") else path == prefix or path.startswith(f"{prefix}/")

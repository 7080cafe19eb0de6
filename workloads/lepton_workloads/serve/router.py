"""Which path is whose: exact paths by one look-up, paths with parameters by regular expression."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from lepton_workloads.serve.http import HttpError, Request, Response

Handler = Callable[[Request], Awaitable[Response]]
UNMATCHED = "unmatched"
"""The route of requests for which there is none, in metrics: paths from outside must not become labels."""

REMEMBERED = 64
"""Paths whose route is known without a search: those that are really asked for are few."""

_PARAMETER = re.compile(r"\\\{(\w+)\\\}")


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path; `path` is also its name in metrics and in the index."""

    method: str
    path: str
    summary: str
    handler: Handler
    reads_body: bool = False
    open: bool = False
    """Whether it is answered without a token, where the server asks for one."""


class Router:
    """The routes of the server."""

    def __init__(self) -> None:
        self.routes: list[Route] = []
        self._exact: dict[str, dict[str, Route]] = {}
        self._patterns: list[tuple[re.Pattern[str], dict[str, Route]]] = []
        self._found: dict[str, tuple[dict[str, Route], Mapping[str, str]]] = {}

    def add(self, *routes: Route) -> None:
        """Adds routes; `{name}` in a path is a part without `/` and `:`, handed over in `params`."""
        for route in routes:
            self.routes.append(route)
            if "{" not in route.path:
                self._exact.setdefault(route.path, {})[route.method] = route
                continue
            pattern = re.compile(_PARAMETER.sub(r"(?P<\1>[^/:]+)", re.escape(route.path)))
            for known, methods in self._patterns:
                if known == pattern:
                    methods[route.method] = route
                    break
            else:
                self._patterns.append((pattern, {route.method: route}))

    def resolve(self, request: Request) -> Route:
        """The route of a request, whose `params` are filled in.

        Raises:
            HttpError: 404 when no route has this path, 405 (with Allow) when it has other methods only.
        """
        methods = self._exact.get(request.path)
        if methods is None:
            methods, request.params = self._found.get(request.path) or self._search(request.path)
        route = methods.get("GET" if request.method == "HEAD" else request.method)
        if route is None:
            allowed = sorted({*methods, *(["HEAD"] if "GET" in methods else [])})
            raise HttpError(
                405,
                f"{request.method} is not possible here, only {', '.join(allowed)}",
                [(b"allow", ", ".join(allowed).encode())],
            )
        return route

    def _search(self, path: str) -> tuple[dict[str, Route], Mapping[str, str]]:
        for pattern, methods in self._patterns:
            match = pattern.fullmatch(path)
            if match:
                found = methods, match.groupdict()
                if len(self._found) < REMEMBERED:
                    self._found[path] = found
                return found
        raise HttpError(404, f"there is no {path[:200]}; GET / lists what there is")

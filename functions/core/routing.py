"""Finds the route that wants a blob, and says why each route before it did not."""

from collections.abc import Iterator
from dataclasses import dataclass

from functions.core.model import BlobVersion, PipelineKey
from functions.core.pipelines import Pipeline, Pipelines, Route

__all__ = ["RouteTried", "Routing", "find_route"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTried:
    """A route that was looked at, and what it says of the blob."""

    pipeline: PipelineKey
    route: str
    is_match: bool
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """The first route that matches, with its pipeline, and every route that was looked at."""

    pipeline: Pipeline | None
    route: Route | None
    tried: tuple[RouteTried, ...]


def find_route(blob: BlobVersion, content_type: str, pipelines: Pipelines) -> Routing:
    """Return where the blob goes; the first matching route wins, so their order is meaning."""
    tried: list[RouteTried] = []
    for pipeline in pipelines.pipelines:
        for route in pipeline.routes:
            why = why_not(route, blob, content_type)
            tried.append(
                RouteTried(
                    pipeline=pipeline.key,
                    route=route.name,
                    is_match=why is None,
                    why=why or f"matches {route.container}/{route.prefix}{route.glob}",
                )
            )
            if why is None:
                return Routing(pipeline=pipeline, route=route, tried=tuple(tried))
    return Routing(pipeline=None, route=None, tried=tuple(tried))


def why_not(route: Route, blob: BlobVersion, content_type: str) -> str | None:
    """Return the first thing about the blob that the route does not want, or None if it wants the blob."""
    return next(_objections(route, blob, content_type), None)


def _objections(route: Route, blob: BlobVersion, content_type: str) -> Iterator[str]:
    media_type = content_type.partition(";")[0].strip().lower()
    if blob.container != route.container:
        yield f"container {blob.container!r} is not {route.container!r}"
    if not blob.path.startswith(route.prefix):
        yield f"the path does not begin with {route.prefix!r}"
    if not blob.path.endswith(route.suffix):
        yield f"the path does not end with {route.suffix!r}"
    if not route.names.matches(blob.path):
        yield f"{blob.path[len(route.prefix) :][:200]!r} does not match {route.glob!r}"
    if blob.size_bytes < route.min_size_bytes:
        yield f"{blob.size_bytes} bytes are less than {route.min_size_bytes}"
    if route.max_size_bytes is not None and blob.size_bytes > route.max_size_bytes:
        yield f"{blob.size_bytes} bytes are more than {route.max_size_bytes}"
    if route.content_types and media_type not in route.content_types:
        yield f"content type {media_type[:80]!r} is not one of {', '.join(sorted(route.content_types))}"

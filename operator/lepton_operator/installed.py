"""Whether the installed CRDs know every field of this version, by the schemas that the API server publishes.

Reading CRDs needs a right over the whole cluster; the published schemas may be read by every account.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from lepton_operator.api import KINDS
from lepton_operator.api.kind import GROUP, VERSION, Kind
from lepton_operator.api_errors import ApiError, NotFound
from lepton_operator.cluster import Cluster
from lepton_operator.crdgen import crd
from lepton_operator.facts import Json

SCHEMAS_PATH = f"/openapi/v3/apis/{GROUP}/{VERSION}"
CURE = "apply crds/"
SHOWN = 5


async def problem_with_crds(cluster: Cluster) -> str | None:
    """A sentence about what is missing, None when all is there."""
    try:
        document = await cluster.get_path(SCHEMAS_PATH)
    except NotFound:
        return f"CRDs are missing: {CURE}"
    except ApiError as error:
        return f"The schemas of the CRDs can't be read: {error}"
    schemas = document.get("components", {}).get("schemas", {})
    unknown: list[str] = []
    for kind in KINDS:
        published = _published(schemas, kind)
        if published is None:
            return f"The CRD of {kind.name} is missing: {CURE}"
        unknown += [f"{kind.name}{path}" for path in missing_fields(published, _wanted(kind))]
    if not unknown:
        return None
    more = f" and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
    return (
        f"The installed CRDs are older than this operator, without {', '.join(unknown[:SHOWN])}{more}: {CURE}"
    )


def missing_fields(published: Json, wanted: Json, path: str = "") -> Iterator[str]:
    """Paths of properties that `wanted` has and `published` lacks, the outermost ones."""
    for name, schema in (wanted.get("properties") or {}).items():
        held = (published.get("properties") or {}).get(name)
        if held is None:
            yield f"{path}.{name}"
        else:
            yield from missing_fields(held, schema, f"{path}.{name}")
    for inside, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(wanted.get(inside), Mapping) and isinstance(published.get(inside), Mapping):
            yield from missing_fields(published[inside], wanted[inside], path + mark)


def _wanted(kind: Kind) -> dict[str, Any]:
    schema: dict[str, Any] = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    # The API server publishes its own schema of metadata.
    return {"properties": {name: schema["properties"][name] for name in ("spec", "status")}}


def _published(schemas: Mapping[str, Json], kind: Kind) -> Json | None:
    for schema in schemas.values():
        for row in schema.get("x-kubernetes-group-version-kind") or ():
            if (row.get("group"), row.get("version"), row.get("kind")) == (GROUP, VERSION, kind.name):
                return schema
    return None

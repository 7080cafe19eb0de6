"""Parts that several kinds share."""

from typing import Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from lepton_operator.api.kind import MAX_NAME
from lepton_workloads.contract.base import SUBDOMAIN, Record

DEFAULT_CLAIM = "lepton-store"

QUANTITY_PATTERN = "^[0-9]+([.][0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei)?$"


class _QuantitySchema:
    """A Kubernetes quantity: a number or text such as 500m or 2Gi; kept as text."""

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> CoreSchema:
        return core_schema.no_info_before_validator_function(
            str, core_schema.str_schema(pattern=QUANTITY_PATTERN)
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _schema: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "maxLength": 32,
            # Instead of `pattern`, whose refusal says no more than the pattern.
            "x-kubernetes-validations": [
                {
                    "rule": f"type(self) == int ? self >= 0 && self < {10**18} : self.matches('{QUANTITY_PATTERN}')"
                    " && quantity(self).isLessThan(quantity('1E'))",
                    "message": "an amount is a number below 1E, not negative, with an optional unit: write for "
                    "example 500m, 2 or 2Gi",
                }
            ],
        }


Quantity = Annotated[str, _QuantitySchema]

_DEVICE = "^[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?/[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?$"


def field_rule(expression: str, message: str) -> dict[str, Any]:
    """A CEL rule of one field, for `json_schema_extra`: the refusal names the field."""
    return {"x-kubernetes-validations": [{"rule": expression, "message": message}]}


Name = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        json_schema_extra=field_rule(
            f"self.matches('{SUBDOMAIN}')",
            "no object has such a name: write letters a-z, digits, '-' and '.', for example team-a",
        ),
    ),
]
"""Of an object of Kubernetes."""

LeptonName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_NAME,
        json_schema_extra=field_rule(
            "self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
            "no Lepton object has such a name: write letters a-z, digits and '-', a letter first, for example "
            "digits",
        ),
    ),
]

StartupDeadline = Annotated[
    int,
    Field(
        ge=1,
        le=86_400,
        description="Seconds that a fault which may cure itself (image not there yet, no node fits, "
        "missing claim) "
        "counts as Reconciling; after that it is Stalled, and un-stalls when cured.",
    ),
]


class Storage(Record):
    """Where prepared data and model versions are kept."""

    claim_name: Annotated[
        Name,
        Field(
            description="PersistentVolumeClaim in the same namespace. The operator creates "
            "`lepton-store` when it is "
            "missing; any other claim is yours to create. It is never deleted.",
        ),
    ] = DEFAULT_CLAIM


def _known(part: str) -> tuple[str, str]:
    """Names that a container may ask for; others no node has."""
    return (
        f"!has(self.{part}) || self.{part}.all(k, k in ['cpu', 'memory', 'ephemeral-storage'] || "
        f"k.startsWith('hugepages-') || k.matches('{_DEVICE}'))",
        f"resources.{part} knows cpu, memory, ephemeral-storage, hugepages-SIZE and devices with a domain, for "
        "example nvidia.com/gpu",
    )


class Resources(Record):
    """Resources of each container, as in a pod."""

    requests: Annotated[
        dict[str, Quantity] | None,
        Field(max_length=16, description="Guaranteed amounts by resource name, for example cpu: 500m."),
    ] = None
    limits: Annotated[
        dict[str, Quantity] | None,
        Field(max_length=16, description="Upper limits by resource name, for example memory: 2Gi."),
    ] = None

    cel_rules = (
        _known("requests"),
        _known("limits"),
        (
            "!has(self.requests) || self.requests.all(k, !k.contains('/') || has(self.limits) && k in self.limits)",
            "a resource with a domain in its name belongs into limits: write for example limits: {nvidia.com/gpu: 1}",
        ),
        (
            "!has(self.limits) || self.limits.all(k, !k.contains('/') || type(self.limits[k]) == int || "
            "string(self.limits[k]).matches('^[0-9]+$'))",
            "devices are counted in whole numbers: write for example limits: {nvidia.com/gpu: 1}",
        ),
        (
            "!has(self.requests) || !has(self.limits) || self.requests.all(k, !(k in self.limits) || "
            "!isQuantity(string(self.requests[k])) || !isQuantity(string(self.limits[k])) || "
            "quantity(string(self.requests[k])).compareTo(quantity(string(self.limits[k]))) <= 0)",
            "requests must not be above limits: raise the limit, or lower the request of the same name",
        ),
    )

    def or_else(self, default: "Resources") -> "Resources":
        """These, or the default when nothing is given.

        The default is not in the schema: it would be filled in, and an amount taken out of a manifest again
        would leave the other amounts of the default behind, in a spec that nobody wrote.
        """
        return self if self.requests or self.limits else default


class Condition(Record):
    """One aspect of the state, as Kubernetes' metav1.Condition."""

    type: Annotated[str, Field(max_length=64, description="Name of the aspect.")]
    status: Annotated[Literal["True", "False", "Unknown"], Field(description="Whether it holds.")]
    reason: Annotated[str, Field(max_length=64, description="Why, as one word.")]
    message: Annotated[
        str, Field(max_length=4096, description="Why, as a sentence that a person can act on.")
    ]
    last_transition_time: Annotated[
        str, Field(json_schema_extra={"format": "date-time"}, description="When status last flipped.")
    ]
    observed_generation: Annotated[int, Field(description="Generation of the spec this was computed from.")]


class Status(Record):
    """What all three kinds report."""

    observed_generation: Annotated[
        int, Field(description="Generation of the spec that this status answers; -1 before the first visit.")
    ] = -1
    conditions: Annotated[
        list[Condition] | None,
        Field(
            max_length=16,
            description="Aspects of the state; all types of the kind are present from the first visit.",
            json_schema_extra={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
            },
        ),
    ] = None

"""The base of every record that crosses the border between operator and pods."""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

SUBDOMAIN = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
"""Names of most objects in Kubernetes (RFC 1123)."""
CONTROL = "[\\\\x00-\\\\x1f\\\\x7f]"
"""Control characters, as a pattern in CEL: no file of a dataset or model has them in its path."""


class Record(BaseModel):
    """A frozen record; camelCase in JSON, unknown fields are refused.

    `cel_rules` are pairs of (CEL expression, sentence that says what to write instead); they are
    copied into the CRD wherever the record is part of a spec, and so are checked by the API server.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
    )

    cel_rules: ClassVar[tuple[tuple[str, str], ...]] = ()

    def to_json_dict(self) -> dict[str, Any]:
        """JSON form with camelCase keys, without fields that are None."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def to_json(self) -> str:
        """Compact JSON text of `to_json_dict`."""
        return self.model_dump_json(by_alias=True, exclude_none=True)

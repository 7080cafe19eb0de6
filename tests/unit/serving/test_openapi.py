"""The OpenAPI document: valid, complete, and true."""

from pathlib import Path
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.unit.serving.secrets import Secret
from tests.unit.serving.support import LABELS, SHAPE, TASK, Process, picture

TOKEN = "a-long-random-token-of-a-team"


@pytest.fixture(scope="module")
def document(served: Process) -> Any:
    answer = served.get("/openapi.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    return answer.json()


def operations(document: Any) -> list[tuple[str, str, Any]]:
    return [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_it_is_valid(document: Any) -> None:
    OpenAPIV31SpecValidator(document).validate()


def test_it_has_every_route_of_the_server(served: Process, document: Any) -> None:
    listed = {(route["method"].lower(), route["path"]) for route in served.get("/").json()["routes"]}
    assert {(method, path) for method, path, _ in operations(document)} == listed


def test_every_body_parameter_and_error_is_described(document: Any) -> None:
    for method, path, operation in operations(document):
        names = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"}
        assert names == {part.partition("}")[0] for part in path.split("{")[1:]}, path
        assert ("requestBody" in operation) == (method == "post")
        for code, response in operation["responses"].items():
            assert response["description"]
            if code != "200":
                schema = response["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Error"}
        if method == "post":
            assert {"400", "413", "415", "503"} <= set(operation["responses"])


def test_it_knows_the_model(document: Any) -> None:
    schemas = document["components"]["schemas"]
    tensor = schemas["Predict"]["oneOf"][0]["properties"]["instances"]["items"]["anyOf"][0]
    for size in SHAPE:
        assert (tensor["minItems"], tensor["maxItems"]) == (size, size)
        tensor = tensor["items"]
    assert schemas["Class"]["properties"]["index"]["maximum"] == len(LABELS) - 1
    assert document["info"]["version"] == TASK.version


def test_it_names_the_token_where_one_is_needed(document: Any, root: Path) -> None:
    assert "securitySchemes" not in document["components"]
    Secret(root / "lepton" / "tokens", {"one": TOKEN.encode()})
    server = Process(root, LEPTON_TASK=TASK.model_copy(update={"tokens": True}).to_json()).wait_ready()
    assert server.get("/openapi.json").status == 401
    guarded = server.ask("GET", "/openapi.json", headers={"Authorization": f"Bearer {TOKEN}"}).json()
    OpenAPIV31SpecValidator(guarded).validate()
    assert guarded["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    for method, path, operation in operations(guarded):
        answer = server.ask(method.upper(), path.replace("{", "").replace("}", ""), b"")
        assert ("security" in operation) == (answer.status == 401), path
        assert ("401" in operation["responses"]) == (answer.status == 401), path
    server.kill()


def test_a_good_request_gets_an_answer_of_its_schema(served: Process, document: Any) -> None:
    def check(path: str, answer: Any) -> None:
        schema = document["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
        schema = {**schema, "components": document["components"]}
        OAS31Validator(schema).validate(answer)

    check("/classify", served.ask("POST", "/classify", picture()).json())
    zeros: Any = 0.0
    for size in reversed(SHAPE):
        zeros = [zeros] * size
    check("/v1/models/{model}:predict", served.predict({"instances": [zeros]}).json())
    one = {"name": "pixels", "datatype": "FP32", "shape": [1, *SHAPE], "data": [zeros]}
    body = {"inputs": [one]}
    answer = served.predict(body, "/v2/models/digits/infer")
    check("/v2/models/{model}/infer", answer.json())

"""Forms with picture files, sent by curl and by hand."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lepton_workloads.serve.bodies.uploads import MAX_FIELDS, MAX_FILES
from tests.unit.serving.support import (
    FORM,
    LABELS,
    SHAPE,
    TASK,
    Answer,
    FakeEngine,
    InProcess,
    Process,
    form,
    litert,
    part,
    picture,
    png_input,
    until,
)


def send(served: Any, body: bytes, content_type: str = FORM, path: str = "/classify") -> Answer:
    return served.ask("POST", path, body, {"Content-Type": content_type})


def curl(served: Process, *arguments: str, path: str = "/classify") -> Any:
    command = ["curl", "--silent", "--show-error", *arguments, f"http://127.0.0.1:{served.port}{path}"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)


def assert_is_answer(predictions: list[dict[str, Any]], seed: int, count: int = 4) -> None:
    expected = litert(png_input(seed)[None])[0]
    best = np.argsort(-expected)[:count].tolist()
    assert [one["index"] for one in predictions] == best
    assert [one["label"] for one in predictions] == [LABELS[index] for index in best]
    assert np.array_equal(np.array([one["probability"] for one in predictions], np.float32), expected[best])


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Three picture files, of seeds 0 to 2."""
    files = [tmp_path / f"käfer {seed}.png" for seed in range(3)]
    for seed, file in enumerate(files):
        file.write_bytes(picture("PNG", seed))
    return files


def test_curl_sends_a_body(served: Process, pictures: list[Path]) -> None:
    answer = curl(served, "--data-binary", f"@{pictures[1]}", path="/classify?top=2")
    assert_is_answer(answer["predictions"], 1, 2)


@pytest.mark.parametrize("name", ["file", "image", "x y"])
def test_curl_sends_a_form_of_one_file_under_any_name(
    served: Process, pictures: list[Path], name: str
) -> None:
    answer = curl(served, "-F", f"{name}=@{pictures[1]}")
    assert (answer["model"], answer["version"]) == (TASK.name, TASK.version)
    assert_is_answer(answer["predictions"], 1)


def test_curl_sends_several_files_and_gets_an_answer_for_each(served: Process, pictures: list[Path]) -> None:
    sent = [argument for file in pictures for argument in ("-F", f"file=@{file}")]
    answer = curl(served, *sent, path="/classify?top=1")
    assert [one["name"] for one in answer["files"]] == [file.name for file in pictures]
    for seed, one in enumerate(answer["files"]):
        assert_is_answer(one["predictions"], seed, 1)


def test_top_may_be_a_field_of_the_form(served: Process, pictures: list[Path]) -> None:
    answer = curl(served, "-F", f"file=@{pictures[2]}", "-F", "top=3")
    assert_is_answer(answer["predictions"], 2, 3)


@pytest.mark.parametrize(
    "content_type",
    [FORM, 'Multipart/Form-Data; charset=utf-8; boundary="XyZ"'],
)
@pytest.mark.parametrize(
    "disposition",
    [
        'form-data; name="file"; filename="a.png"',
        'form-data; name="file"; filename=""',
        'form-data; filename="C:\\\\fakepath\\\\a.png"; name=""',
    ],
)
def test_parts_are_read_as_browsers_write_them(served: Process, content_type: str, disposition: str) -> None:
    body = form(part(picture("PNG", 2), disposition, "Content-Type: image/png\r\n"))
    assert_is_answer(send(served, body, content_type).json()["predictions"], 2)


def test_a_part_with_a_type_is_a_file_without_a_name(served: Process) -> None:
    body = form(part(picture("PNG", 2), 'form-data; name="photo"', "Content-Type: image/png\r\n"))
    assert_is_answer(send(served, body).json()["predictions"], 2)


def test_a_picture_without_a_files_name_is_a_file(served: Process) -> None:
    body = form(part(picture("PNG", 2), 'form-data; name="photo"'))
    assert_is_answer(send(served, body).json()["predictions"], 2)


def test_as_many_files_as_are_accepted(served: Process) -> None:
    answer = send(served, form(*[part(picture("PNG", seed)) for seed in range(MAX_FILES)]))
    assert len(answer.json()["files"]) == MAX_FILES


FIELD = 'form-data; name="note"'
GOOD = part(picture())
BAD: dict[str, tuple[bytes, str, int, str]] = {
    "no boundary": (form(GOOD), "multipart/form-data", 400, "boundary"),
    "empty boundary": (form(GOOD), "multipart/form-data; boundary=", 400, "boundary"),
    "long boundary": (form(GOOD), "multipart/form-data; boundary=" + "x" * 71, 400, "boundary"),
    "other boundary": (form(GOOD), "multipart/form-data; boundary=other", 400, "broken or cut"),
    "empty body": (b"", FORM, 400, "the form is broken or cut"),
    "no parts": (b"--XyZ--\r\n", FORM, 400, "holds no file"),
    "cut": (form(GOOD)[:-30], FORM, 400, "broken or cut"),
    "no end": (GOOD, FORM, 400, "broken or cut"),
    "no disposition": (b"--XyZ\r\n\r\n" + picture() + b"\r\n--XyZ--\r\n", FORM, 400, "broken"),
    "other disposition": (form(part(picture(), "attachment")), FORM, 400, "broken"),
    "header no UTF-8": (form(GOOD.replace(b"a.png", b"\xff.png")), FORM, 400, "broken or cut"),
    "long header": (form(part(picture(), more=f"X: {'y' * 2000}\r\n")), FORM, 413, "too long headers"),
    "many headers": (form(part(picture(), more="X: y\r\n" * 20)), FORM, 413, "too long headers"),
    "too many files": (form(*[GOOD] * (MAX_FILES + 1)), FORM, 413, f"at most {MAX_FILES} files"),
    "too many parts": (form(*[GOOD] * (MAX_FILES + 20)), FORM, 413, f"at most {MAX_FILES} files"),
    "too many fields": (
        form(GOOD, *[part(b"", f'form-data; name="f{number}"') for number in range(MAX_FIELDS + 1)]),
        FORM,
        413,
        f"{MAX_FIELDS} other fields",
    ),
    "only a field": (form(part(b"3", 'form-data; name="top"')), FORM, 400, "holds no file"),
    "unknown field": (form(GOOD, part(b"x", FIELD)), FORM, 400, "field 'note' is not known"),
    "long field": (form(GOOD, part(b"x" * 300, FIELD)), FORM, 400, "field 'note' is no file"),
    "wrong top": (form(GOOD, part(b"0", 'form-data; name="top"')), FORM, 400, "top must be"),
    "empty file": (form(GOOD, part(b"")), FORM, 400, "the file 'a.png' is empty"),
    "text file": (form(GOOD, part(b"text")), FORM, 415, "the file 'a.png' is not a JPEG"),
    "damaged file": (
        form(GOOD, part(picture(size=(99, 99))[:3000], 'form-data; name="f"; filename="b.png"')),
        FORM,
        400,
        "the file 'b.png' can't be used",
    ),
    "mixed": (form(GOOD), "multipart/mixed; boundary=XyZ", 415, "multipart/mixed"),
    "JSON": (b"{}", "application/json", 415, "application/json"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_forms_get_their_code_and_a_sentence(served: Process, name: str) -> None:
    body, content_type, status, text = BAD[name]
    answer = send(served, body, content_type)
    assert answer.status == status, answer.body
    assert text in answer.error
    assert send(served, form(GOOD)).status == 200


def test_damaged_forms_are_refused_wherever_they_are_cut_or_changed(served: Process) -> None:
    """Whatever is wrong, it is the client's fault."""
    good = form(part(b"3", 'form-data; name="top"'), part(picture("GIF"), more="Content-Type: image/gif\r\n"))
    rng = np.random.default_rng(1)
    for _ in range(150):
        damaged = bytearray(good[: rng.integers(0, len(good))] if rng.random() < 0.3 else good)
        for _ in range(rng.integers(0, 4)):
            if damaged:
                damaged[rng.integers(0, min(len(damaged), 200))] = rng.integers(0, 256)
        assert send(served, bytes(damaged)).status in (200, 400, 413, 415)


def test_large_requests_are_read_beside_the_event_loop() -> None:
    """Bodies of more than 256 KiB, in each of the forms."""
    engine = FakeEngine(lambda batch: np.eye(4, dtype=np.float32)[batch[:, 0, 0, 0].astype(int)])
    server = InProcess(lambda: engine, TASK.model_copy(update={"max_request_bytes": 4_000_000}))
    try:
        until(server.ready, "the server")
        batch = np.zeros((1000, *SHAPE), np.float32)
        batch[:, 0, 0, 0] = np.arange(1000) % 4
        expected = np.eye(4)[np.arange(1000) % 4]
        one = {"name": "pixels", "datatype": "FP32", "shape": list(batch.shape)}
        text = json.dumps({"inputs": [{**one, "parameters": {"binary_data_size": batch.nbytes}}]}).encode()
        header = {"Inference-Header-Content-Length": str(len(text))}
        for answer in (
            server.predict({"inputs": [{**one, "data": batch.tolist()}]}, "/v2/models/digits/infer"),
            server.ask("POST", "/v2/models/digits/infer", text + batch.tobytes(), header),
        ):
            assert np.array_equal(np.array(answer.json()["outputs"][0]["data"]).reshape(-1, 4), expected)
        answer = server.predict({"instances": batch.tolist()})
        assert np.array_equal(answer.json()["predictions"], expected)
        many = [part(picture("BMP", seed, size=(90, 90))) for seed in range(20)]
        assert len(send(server, form(*many)).json()["files"]) == 20
    finally:
        server.stop()

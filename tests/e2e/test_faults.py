"""What is missing or broken is named in the status within seconds, and cured by curing it."""

import pytest

from tests.e2e.cluster import Namespace, claim, dataset, model, training_job, until

PICTURES = """
import io, pathlib, random
from PIL import Image
import numpy
draw = numpy.random.default_rng(1)
for label in ("cat", "dog"):
    folder = pathlib.Path("/data/photos") / label
    folder.mkdir(parents=True)
    for number in range({each}):
        pixels = draw.integers(0, 256, (20, 30, 3), dtype=numpy.uint8)
        Image.fromarray(pixels).save(folder / f"{{number:03d}}.png")
for number in range({broken}):
    (pathlib.Path("/data/photos/cat") / f"broken{{number}}.png").write_bytes(b"not a picture")
"""


def photos(namespace: Namespace, images: dict[str, str], each: int, broken: int) -> None:
    """A claim `photos` with two classes of pictures, some of them broken."""
    namespace.apply(claim("photos"))
    namespace.run_python("camera", images["server"], PICTURES.format(each=each, broken=broken), "photos")


def of_photos(path: str = "photos", **spec: object) -> dict[str, object]:
    """A LeptonDataset of that claim."""
    return dataset("photos", source={"pvc": {"claimName": "photos", "path": path}}, **spec)


def test_missing_dataset_job_and_claim_are_named(namespace: Namespace) -> None:
    namespace.apply(
        dataset("photos", source={"pvc": {"claimName": "photos"}}),
        training_job(),
        model(job="other"),
    )
    row = namespace.wait_reason("lds", "photos", "SourceNotFound", deadline=30)
    assert "PersistentVolumeClaim photos does not exist" in row["message"]
    row = namespace.wait_reason("ltj", "cnn", "DatasetNotFound", "Succeeded", deadline=30)
    assert "LeptonDataset digits does not exist" in row["message"]
    row = namespace.wait_reason("lm", "digits", "TrainingJobNotFound", deadline=30)
    assert "LeptonTrainingJob other does not exist" in row["message"]


def test_a_missing_claim_is_cured_by_making_it(namespace: Namespace, images: dict[str, str]) -> None:
    namespace.apply(of_photos())
    namespace.wait_reason("lds", "photos", "SourceNotFound")
    photos(namespace, images, each=12, broken=0)
    until(lambda: namespace.reason("lds", "photos") in ("Prepared", "SourceNotFound"), "an answer")
    # The pod may have run before the pictures were there: then the folder is what is missing.
    if namespace.reason("lds", "photos") != "Prepared":
        namespace.apply(of_photos(revision="2"))
    namespace.wait("lds/photos", "Ready")
    assert namespace.get("lds", "photos")["status"]["labels"] == ["cat", "dog"]


def test_a_few_bad_files_are_set_aside_and_counted(namespace: Namespace, images: dict[str, str]) -> None:
    photos(namespace, images, each=30, broken=2)
    namespace.apply(of_photos(maxInvalidFraction=0.1))
    namespace.wait("lds/photos", "Ready")
    status = namespace.get("lds", "photos")["status"]
    assert (status["samples"], status["invalidFiles"]) == (60, 2)
    assert "2 unreadable files were set aside" in namespace.condition("lds", "photos", "Ready")["message"]


def test_many_bad_files_are_invalid_data(namespace: Namespace, images: dict[str, str]) -> None:
    photos(namespace, images, each=10, broken=3)
    namespace.apply(of_photos())
    namespace.wait("lds/photos", "Stalled")
    row = namespace.condition("lds", "photos", "Ready")
    assert row["reason"] == "InvalidData"
    assert "broken0.png" in row["message"]
    assert "3" in row["message"]
    # The limit in the spec says otherwise: prepared.
    namespace.apply(of_photos(maxInvalidFraction=0.5))
    namespace.wait("lds/photos", "Ready")


def test_one_claim_may_be_source_and_store(namespace: Namespace, images: dict[str, str]) -> None:
    photos(namespace, images, each=6, broken=0)
    namespace.apply(of_photos(storage={"claimName": "photos"}))
    namespace.wait("lds/photos", "Ready")


def test_a_missing_folder_is_named(namespace: Namespace, images: dict[str, str]) -> None:
    photos(namespace, images, each=3, broken=0)
    namespace.apply(of_photos(path="nowhere"))
    row = namespace.wait_reason("lds", "photos", "SourceNotFound", deadline=90)
    assert "nowhere" in row["message"]


def test_several_indexes_prepare_the_same(namespace: Namespace, images: dict[str, str]) -> None:
    photos(namespace, images, each=20, broken=0)
    source = {"pvc": {"claimName": "photos", "path": "photos"}}
    namespace.apply(dataset("three", source=source, parallelism=3))
    namespace.wait("lds/three", "Ready")
    namespace.apply(dataset("one", source=source))
    namespace.wait("lds/one", "Ready")
    digests = {namespace.get("lds", name)["status"]["digest"] for name in ("one", "three")}
    assert len(digests) == 1


def test_pictures_too_small_for_the_network_are_found_before_any_pod(namespace: Namespace) -> None:
    namespace.apply(dataset(), training_job(network={"convolutions": [4, 4, 4, 4, 4]}))
    row = namespace.wait_reason("ltj", "cnn", "InvalidSpec", "Stalled")
    assert "too small" in row["message"]
    assert namespace.list("jobs", "lepton.ai/kind=LeptonTrainingJob") == []


def test_an_object_that_is_not_ours_is_left_alone(namespace: Namespace, images: dict[str, str]) -> None:
    foreign = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "digits"},
        "spec": {"selector": {"app": "other"}, "ports": [{"port": 8000}]},
    }
    namespace.apply(foreign)
    version = namespace.get("service", "digits")["metadata"]["resourceVersion"]
    namespace.apply(model(source={"uri": "pvc://nowhere/m"}))
    row = namespace.wait_reason("lm", "digits", "NameConflict")
    assert "digits" in row["message"]
    assert namespace.get("service", "digits")["metadata"]["resourceVersion"] == version
    namespace.run("delete", "service", "digits")
    namespace.wait_reason("lm", "digits", "SourceNotFound", deadline=90)


@pytest.mark.parametrize("quantity", ["900", "2000Gi"])
def test_a_pod_that_no_node_takes_is_unschedulable(namespace: Namespace, quantity: str) -> None:
    name = "cpu" if quantity == "900" else "memory"
    namespace.apply(dataset(resources={"requests": {name: quantity}}, startupDeadlineSeconds=5))
    row = namespace.wait_reason("lds", "digits", "Unschedulable")
    assert "no node takes pod" in row["message"]
    namespace.wait("lds/digits", "Stalled")
    namespace.apply(dataset())
    namespace.wait("lds/digits", "Ready")

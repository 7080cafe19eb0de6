"""An image that is not there: told apart by what the registry or the kubelet said."""

import re
from collections.abc import Sequence

from lepton_operator.facts import Json, WarningFact
from lepton_operator.faults.fault import IMAGE_PULL_FAILED, Fault
from lepton_operator.faults.text import clip, is_own_code, sentence

PULL_REASONS = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)

BACK_OFF = re.compile(r'Back-off pulling image "[^"]*"(: \w+: )?')
"""Stands before the cause while the kubelet waits: the same fault as while it tries."""

PULL_SECRET = re.compile(r"Unable to retrieve some image pull secrets \(([^)]*)\)")

OPERATOR_IMAGES = (
    "the operator's settings (LEPTON_TRAINER_IMAGE, LEPTON_SERVER_IMAGE, LEPTON_TENSORFLOW_SERVER_IMAGE)"
)

OWN_IMAGE = "spec.network.custom of a new training job"

WHAT_TO_DO = (
    (
        r"429|toomanyrequests|too many requests|rate limit",
        "the registry limits pulls: wait, or use a mirror or a registry of your own",
    ),
    (
        r"unauthorized|authoriz|authentication|denied|forbidden|insufficient_scope|\b40[13]\b",
        "the node may not pull it: name a Secret in spec.podTemplate.imagePullSecrets, or correct the image "
        f"in {OPERATOR_IMAGES}",
    ),
    (
        r"no such host|dial tcp|i/o timeout|timed? ?out|deadline exceeded|connection re|tls|x509|EOF",
        "the node can't reach the registry: check its network, proxy and certificates",
    ),
    (
        r"not found|manifest unknown|does not exist|no such",
        f"there is no such image: correct it in {OPERATOR_IMAGES}",
    ),
    (r"no space left", "the node's disk is full: make room on it"),
    (r"no match for platform|exec format", "the image is not made for the node's processor: use one that is"),
)
"""(what was said, what to do), the first that matches."""


def pull_fault(
    where: str, pod: Json, container: Json, reason: str, message: str, warnings: Sequence[WarningFact]
) -> Fault:
    """Why an image can't be had, and who can mend that."""
    image = container.get("image") or "?"
    own = is_own_code(pod, container.get("name", ""))
    if reason == "ErrImageNeverPull":
        said = "it is not on the node, and the pull policy is Never"
        do = "load it there, or set LEPTON_IMAGE_PULL_POLICY of the operator to IfNotPresent"
    elif reason == "InvalidImageName":
        said, do = "this is no name of an image", f"correct it in {OPERATOR_IMAGES}"
    else:
        said = clip(BACK_OFF.sub("", message)) or _told(pod, warnings) or reason
        do = _what_to_do(said)
    if own:
        do = do.replace(OPERATOR_IMAGES, OWN_IMAGE)
    if missing := _missing_secret(pod, warnings):
        do = f"{do}; Secret {missing}, which spec.podTemplate.imagePullSecrets names, does not exist"
    return Fault(IMAGE_PULL_FAILED, sentence(f"{where}: image {image} can't be pulled", said, do), rank=1)


def _what_to_do(said: str) -> str:
    for pattern, do in WHAT_TO_DO:
        if re.search(pattern, said, re.IGNORECASE):
            return do
    return "check its name and that the node may pull it"


def _told(pod: Json, warnings: Sequence[WarningFact]) -> str:
    """The cause from an Event: older kubelets don't tell it while they wait."""
    for warning in warnings:
        if _is_about(warning, pod, "Failed") and "pull" in warning.message:
            return clip(warning.message)
    return ""


def _missing_secret(pod: Json, warnings: Sequence[WarningFact]) -> str:
    for warning in warnings:
        found = PULL_SECRET.search(warning.message)
        if found and _is_about(warning, pod, "FailedToRetrieveImagePullSecret"):
            return found[1]
    return ""


def _is_about(warning: WarningFact, pod: Json, reason: str) -> bool:
    return (warning.kind, warning.name, warning.reason) == ("Pod", pod["metadata"]["name"], reason)

"""Whether a network can take a dataset's pictures: found before any pod trains."""

from lepton_operator.facts import Json
from lepton_workloads.contract.network import CnnSizes


def network_problem(network: CnnSizes, image: Json) -> str | None:
    """A sentence when the poolings leave nothing of a picture, else None.

    Convolutions keep the size with padding `same` and take their kernel size - 1 with `valid`; each pooling
    divides by its pool size, rounded down (Keras' Conv2D and MaxPooling2D with padding `valid`).
    """
    for side in ("height", "width"):
        size = first = int(image.get(side, 32))
        for block, (_, kernel, pool) in enumerate(network.blocks, start=1):
            if network.padding == "valid":
                size -= kernel - 1
            size = size // pool if size > 0 else 0
            if size < 1:
                return (
                    f"pictures of {side} {first} are too small for {len(network.convolutions)} "
                    "convolution blocks: "
                    f"nothing is left after block {block}: use fewer convolutions, a smaller poolSize, "
                    f"padding: same, or larger pictures in the dataset"
                )
    return None

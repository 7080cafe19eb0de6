"""Whether a network can take a dataset's pictures: found before any pod trains."""

from lepton_operator.facts import Json
from lepton_workloads.contract.network import Cnn


def network_problem(network: Cnn, image: Json) -> str | None:
    """A sentence when the poolings leave nothing of a picture, else None.

    Convolutions keep the size with padding `same` and take kernelSize - 1 with `valid`; each pooling divides
    by poolSize, rounded down (Keras' Conv2D and MaxPooling2D with padding `valid`).
    """
    for side in ("height", "width"):
        size = first = int(image.get(side, 32))
        for block in range(1, len(network.convolutions) + 1):
            if network.padding == "valid":
                size -= network.kernel_size - 1
            size = size // network.pool_size if size > 0 else 0
            if size < 1:
                return (
                    f"pictures of {side} {first} are too small for {len(network.convolutions)} "
                    "convolution blocks: "
                    f"nothing is left after block {block}: use fewer convolutions, a smaller poolSize, "
                    f"padding: same, or larger pictures in the dataset"
                )
    return None

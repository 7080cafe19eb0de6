"""Whether a network can take a picture: against a plain simulation on real arrays of positions."""

from hypothesis import given
from hypothesis import strategies as st

from lepton_operator.decide.network_fits import network_problem
from lepton_workloads.contract.network import Cnn


def windows(size: int, kernel: int, stride: int) -> int:
    """How many whole windows fit."""
    return len([start for start in range(0, size, stride) if start + kernel <= size])


def simulated(network: Cnn, height: int, width: int) -> bool:
    for size in (height, width):
        for _ in network.convolutions:
            if network.padding == "valid":
                size = windows(size, network.kernel_size, 1)
            size = windows(size, network.pool_size, network.pool_size)
            if size == 0:
                return False
    return True


@given(
    blocks=st.integers(1, 8),
    kernel=st.integers(1, 15),
    pool=st.integers(1, 8),
    padding=st.sampled_from(["same", "valid"]),
    height=st.integers(1, 300),
    width=st.integers(1, 300),
)
def test_agrees_with_a_simulation(
    blocks: int, kernel: int, pool: int, padding: str, height: int, width: int
) -> None:
    network = Cnn.model_validate(
        {"convolutions": [8] * blocks, "kernelSize": kernel, "poolSize": pool, "padding": padding}
    )
    problem = network_problem(network, {"height": height, "width": width})
    assert (problem is None) == simulated(network, height, width)


def test_says_which_block_and_what_to_do() -> None:
    problem = network_problem(Cnn(convolutions=[8] * 6), {"height": 32, "width": 64})
    assert problem is not None
    assert "height 32" in problem
    assert "after block 6" in problem
    assert "use fewer convolutions" in problem


def test_a_dataset_without_a_size_has_the_default_size() -> None:
    assert network_problem(Cnn(convolutions=[8] * 5), {}) is None
    assert network_problem(Cnn(convolutions=[8] * 6), {}) is not None

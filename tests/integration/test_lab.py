"""The laboratory itself: the chain of all three kinds works in it, under the operator's minimal rights."""

from tests.integration.objects import chain
from tests.integration.sandbox import Lab
from tests.integration.traffic import writes_by_kind


def test_data_training_and_model_come_to_their_end_on_simulated_pods(lab: Lab) -> None:
    with lab.sandbox("chain") as box:
        box.operator.start()
        box.create(*chain())
        box.wait_settled()
        assert box.get("LeptonModel", "digits")["status"]["readyReplicas"] == 2
        done = writes_by_kind(box.proxy.writes())
        assert done["POST jobs"] == 2, done
        assert done["PATCH deployments"] == 1, done
        assert box.operator.terminate() == 0

"""What all decisions share: images and defaults, taken from the settings once at start."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Context:
    """Settings that shape children."""

    trainer_image: str
    server_image: str
    tensorflow_server_image: str | None = None
    image_pull_policy: str = "IfNotPresent"
    store_size: str = "10Gi"
    store_class: str | None = None
    store_access_mode: str = "ReadWriteMany"
    report_interval_seconds: float = 10.0
    drift_interval_seconds: float = 60.0
    autoscaler_grace_seconds: float = 120.0

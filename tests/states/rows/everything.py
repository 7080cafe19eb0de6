"""The rows of all kinds; those with a deadline stand twice, before and after it."""

from tests.states.row import Row, with_late
from tests.states.rows import dataset, model, training_job

BY_KIND: dict[str, tuple[Row, ...]] = {
    "LeptonDataset": dataset.ROWS,
    "LeptonTrainingJob": training_job.ROWS,
    "LeptonModel": model.ROWS,
}
EVERY: list[Row] = with_late(row for rows in BY_KIND.values() for row in rows)

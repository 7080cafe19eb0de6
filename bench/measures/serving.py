"""How fast the network is served: Lepton's server against the bare engine and others of the field. Needs no cluster."""

from collections.abc import AsyncIterator
from pathlib import Path

from bench.cores import cores
from bench.figures import Figure
from bench.serving.chart import svg
from bench.serving.results import figures, markdown
from bench.serving.run import Bench, Plan, say

ROOT = Path(__file__).parents[2]
CHART = ROOT / "docs/serving.svg"
TABLE = ROOT / "bench/serving-table.md"


async def run() -> AsyncIterator[Figure]:
    """All servers on one core, asked from another one."""
    server_core, load_core = cores(2)
    results = await Bench(Plan(), server_core, load_core).run()
    CHART.write_text(svg(results))
    TABLE.write_text(markdown(results))
    say(f"wrote {CHART.relative_to(ROOT)} and {TABLE.relative_to(ROOT)}")
    for figure in figures(results):
        yield figure

"""`python -m bench.serving [NAME...]`: one short cell of each, to see that all servers run. Its figures say nothing."""

import argparse
import asyncio

from bench.cores import cores
from bench.serving.results import markdown
from bench.serving.run import Bench, Plan
from bench.serving.servers import BY_NAME


def main() -> None:
    """Print the tables of a hasty run."""
    parser = argparse.ArgumentParser(prog="python -m bench.serving", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *BY_NAME], help="servers; all by default")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each cell (0.5)")
    arguments = parser.parse_args()
    servers = [BY_NAME[name] for name in arguments.names] or list(BY_NAME.values())
    server_core, load_core = cores(2)
    plan = Plan(seconds=arguments.seconds, warm_up=0.2, rounds=1, servers=servers)
    print(markdown(asyncio.run(Bench(plan, server_core, load_core).run())))


if __name__ == "__main__":
    main()

"""Generates the messages of serve/rpc/protos from their .proto files. `--check` only compares.

They go into a pool of their own: TensorFlow, which may be in the same process, has messages of the same full names.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

WORKLOADS = Path(__file__).resolve().parent.parent / "workloads"
PROTOS = Path("lepton_workloads/serve/rpc/protos")
PUBLIC_POOL = "_descriptor_pool.Default()"
PUBLIC_IMPORT = "from google.protobuf import descriptor_pool as _descriptor_pool\n"
OWN_IMPORT = "from lepton_workloads.serve.rpc.protos.pool import POOL as _POOL\n"


def generated() -> dict[Path, str]:
    """Path below the workloads -> text."""
    sources = sorted(str(path.relative_to(WORKLOADS)) for path in (WORKLOADS / PROTOS).glob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        options = [f"-I{WORKLOADS}", f"--python_out={folder}", f"--pyi_out={folder}"]
        if protoc.main(["protoc", *options, *sources]) != 0:
            raise SystemExit("protoc has refused the .proto files, see above")
        return {
            path.relative_to(folder): _in_own_pool(path.read_text())
            for path in sorted(Path(folder).rglob("*_pb2.py*"))
        }


def _in_own_pool(text: str) -> str:
    return text.replace(PUBLIC_POOL, "_POOL").replace(PUBLIC_IMPORT, OWN_IMPORT)


def main(arguments: list[str] | None = None) -> int:
    """Writes beside the .proto files, or with --check says what differs (exit code 1)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail on a difference")
    check = parser.parse_args(arguments).check
    wanted = generated()
    there = {path.relative_to(WORKLOADS): path.read_text() for path in (WORKLOADS / PROTOS).glob("*_pb2.py*")}
    stale = sorted(str(path) for path in wanted | there if wanted.get(path) != there.get(path))
    if check:
        if stale:
            print(f"Not up to date: {', '.join(stale)}; run `make protos`", file=sys.stderr)
        return 1 if stale else 0
    for path in there.keys() - wanted.keys():
        (WORKLOADS / path).unlink()
    for path, text in wanted.items():
        (WORKLOADS / path).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Lets a container of Lepton's own images fail as a test says, by what a user may set: a variable and a claim.

`PYTHONPATH` leads to a file on the store that Python runs before the program. `FAULT` is `<module>:<what>`,
for example `serve:exit 137`; other containers of the pod work as always. What can be: `exit CODE`, `hang` at its
start, `freeze` once it answers (and hang when it is started again).
"""

from typing import Any

from tests.e2e.cluster import Namespace, Object

FOLDER = ".sabotage"
APP = "/opt/lepton/app"
"""Where the images keep the program; PYTHONPATH has to go on naming it."""

PLACES = (f"/lepton/source/models/{FOLDER}", f"/lepton/models/{FOLDER}", "/lepton/model", APP)
"""The store in `fetch` and in `train`; the model's folder in `server`, where `fetch` leaves a copy."""

LAST_WORDS = "the disk is on fire"

CODE = f"""
import ctypes, os, pathlib, shutil, sys, threading, time

module, _, what = os.environ.get("FAULT", "").partition(":")
again = pathlib.Path("/tmp/again")
model = pathlib.Path("/lepton/model")
if os.access(model, os.W_OK):
    shutil.copyfile(__file__, model / "sitecustomize.py")
if sys.orig_argv[-1] != f"lepton_workloads.{{module}}":
    pass
elif what == "hang" or again.exists():
    time.sleep(86_400)
elif what == "freeze":
    again.touch()
    # PyDLL keeps the interpreter's lock: nothing in this process runs any more.
    threading.Timer(8, ctypes.PyDLL(None).sleep, [86_400]).start()
else:
    print("{LAST_WORDS}", file=sys.stderr, flush=True)
    os._exit(int(what.removeprefix("exit ")))
"""

PREPARE = """
import pathlib
folder = pathlib.Path("/data/models/{folder}")
folder.mkdir(parents=True, exist_ok=True)
(folder / "sitecustomize.py").write_text({code!r})
"""

REMOVE = f"""
import pathlib
pathlib.Path("/data/models/{FOLDER}/sitecustomize.py").unlink()
"""


def prepare(namespace: Namespace, images: dict[str, str]) -> None:
    """Puts the file on the store of the namespace."""
    code = PREPARE.format(folder=FOLDER, code=CODE)
    namespace.run_python("saboteur", images["server"], code, "lepton-store")


def remove(namespace: Namespace, images: dict[str, str]) -> None:
    """Takes it away: what starts from now on works."""
    namespace.run_python("mechanic", images["server"], REMOVE, "lepton-store")


def sabotaged(fault: str) -> dict[str, Any]:
    """A podTemplate with that fault."""
    variables: list[Object] = [
        {"name": "FAULT", "value": fault},
        {"name": "PYTHONPATH", "value": ":".join(PLACES)},
    ]
    return {"env": variables}

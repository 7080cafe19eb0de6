"""All reasons that the operator can give, read from its source: words in the places where reasons stand."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import lepton_operator
from lepton_workloads.contract.outcome import Failure
from tests.unit.builders import TYPES

SOURCE = Path(lepton_operator.__file__).parent
FILES = ("conditions.py", "apply.py", "faults.py", "faults/*.py", "decide/*.py")

REASON_ARGUMENT = {"Verdict": 1, "Fault": 0, "Refusal": 2, "_Refused": 0, "Extra": 2, "_start_again": 2}
"""Which argument of a call is a reason."""

KIND_OF_FILE = {
    "dataset.py": "LeptonDataset",
    "training_job.py": "LeptonTrainingJob",
    "attempt.py": "LeptonTrainingJob",
    "folds.py": "LeptonTrainingJob",
    "judgement.py": "LeptonTrainingJob",
    "model.py": "LeptonModel",
    "version.py": "LeptonModel",
    "autoscaling.py": "LeptonModel",
    "servable.py": "LeptonModel",
}
"""Which kind a decision is about."""

WORD = re.compile(r"[A-Z][a-zA-Z]+\Z")
CONDITION_TYPES = frozenset(word for words in TYPES.values() for word in words) - {
    "Succeeded",
    "DriftDetected",
}
"""Constants that name conditions; these two are reasons as well."""


def all_reasons() -> set[str]:
    """Reasons of the operator's own, and those that containers name."""
    trees = [ast.parse(path.read_text()) for pattern in FILES for path in sorted(SOURCE.glob(pattern))]
    constants = dict(pair for tree in trees for pair in _constants(tree))
    found = set(constants.values()) - CONDITION_TYPES
    for tree in trees:
        for expression in _reason_expressions(tree):
            found |= set(_words(expression, constants))
    return found | {failure.value for failure in Failure}


def all_verdicts() -> set[tuple[str, str, str]]:
    """(kind, name of the State, reason) of each verdict that a decision writes down in so many words."""
    return {
        (kind, node.args[0].attr, reason)
        for name, kind in KIND_OF_FILE.items()
        for node in ast.walk(ast.parse((SOURCE / "decide" / name).read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Verdict"
        if isinstance(node.args[0], ast.Attribute)
        for reason in _words(node.args[1], {})
    }


def _constants(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """NAME = "Word" at the top of a module."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            name, value = node.targets[0], node.value.value
            if isinstance(name, ast.Name) and isinstance(value, str) and WORD.match(value):
                yield name.id, value


def _reason_expressions(tree: ast.Module) -> Iterator[ast.expr]:
    """Expressions whose value is a reason."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from (keyword.value for keyword in node.keywords if keyword.arg == "reason")
            at = REASON_ARGUMENT.get(node.func.id) if isinstance(node.func, ast.Name) else None
            if at is not None and len(node.args) > at:
                yield node.args[at]
        elif isinstance(node, ast.Assign) and _is_named_reason(node.targets[0]):
            yield node.value
        elif isinstance(node, ast.FunctionDef) and node.name.endswith("_reason"):
            yield from (one.value for one in ast.walk(node) if isinstance(one, ast.Return) and one.value)


def _is_named_reason(target: ast.expr) -> bool:
    first = target.elts[0] if isinstance(target, ast.Tuple) else target
    return isinstance(first, ast.Name) and first.id == "reason"


def _words(expression: ast.expr, constants: dict[str, str]) -> Iterator[str]:
    """The words that an expression can be, apart from what it only compares with."""
    if isinstance(expression, ast.Constant) and isinstance(expression.value, str):
        if WORD.match(expression.value):
            yield expression.value
    elif isinstance(expression, ast.Name):
        if expression.id in constants:
            yield constants[expression.id]
    elif isinstance(expression, ast.IfExp):
        yield from _words(expression.body, constants)
        yield from _words(expression.orelse, constants)
    elif isinstance(expression, ast.BoolOp):
        for value in expression.values:
            yield from _words(value, constants)
    elif isinstance(expression, ast.Tuple):
        for value in expression.elts[:1]:
            yield from _words(value, constants)
    elif isinstance(expression, ast.Call) and len(expression.args) > 1:  # row.get("reason", "Word")
        yield from _words(expression.args[-1], constants)

"""Habits of the house that a tool does not hold: what every module, function and docstring says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "keydesk"
MODULES = sorted(path for path in SOURCE.rglob("*.py") if "versions" not in path.parts)
MAX_FUNCTION_LINES = 60
MAX_MODULE_LINES = 300  # of code: docstrings, comments and blank lines are not counted
Function = ast.FunctionDef | ast.AsyncFunctionDef


def _place(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def _trees() -> Iterator[tuple[str, str, ast.Module]]:
    for path in MODULES:
        text = path.read_text()
        yield _place(path), text, ast.parse(text)


@pytest.mark.parametrize("path", MODULES, ids=_place)
def test_module_says_its_room(path: Path) -> None:
    """The first line of a module tells where in the house one is."""
    first = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
    parts = path.relative_to(SOURCE).parts
    if parts == ("__init__.py",):
        assert first.startswith("Keydesk: ")
    elif len(parts) == 1:
        assert re.match(r"Core: [A-Z\d]?\w", first), first
    else:
        assert re.match(rf"Room {parts[0]}(, [^:]+)?: ", first), first


@pytest.mark.parametrize("path", [path for path in MODULES if _place(path) != "testing/stores.py"], ids=_place)
def test_module_is_short_enough(path: Path) -> None:
    """All but the contract suite, which is a list of tests."""
    assert _lines_of_code(path.read_text()) <= MAX_MODULE_LINES


def _lines_of_code(text: str) -> int:
    documented = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | Function) and ast.get_docstring(node):
            documented.update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines = enumerate(text.splitlines(), 1)
    return sum(
        1 for number, line in lines if line.strip() and not line.strip().startswith("#") and number not in documented
    )


def test_functions_are_short_enough() -> None:
    long = [
        f"{place}:{node.lineno} {node.name}: {(node.end_lineno or 0) - node.lineno + 1} lines"
        for place, _, tree in _trees()
        for node in ast.walk(tree)
        if isinstance(node, Function) and (node.end_lineno or 0) - node.lineno + 1 > MAX_FUNCTION_LINES
    ]
    assert long == []


def test_only_the_clock_reads_time() -> None:
    """Everything else is told the time, so a test can stand at the very instant that matters."""
    names = (
        r"\btime\.(?:time|monotonic|perf_counter)(?:_ns)?\(|\b(?:datetime|date)\.(?:now|utcnow|today)\(|\btime\.sleep\("
    )
    found = [
        f"{place}:{number}"
        for place, text, _ in _trees()
        for number, line in enumerate(text.splitlines(), 1)
        if place != "clock.py" and re.search(names, line)
    ]
    assert found == []


def test_nothing_is_left_to_do() -> None:
    words = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
    assert [place for place, text, _ in _trees() if words.search(text)] == []


def test_no_module_of_odds_and_ends() -> None:
    assert [place for place, _, _ in _trees() if re.search(r"\b(?:utils?|helpers?|common|misc)\b", place)] == []


# Docstrings


def _public(name: str) -> bool:
    return not name.startswith("_")


@dataclass(frozen=True)
class Defined:
    """A function of the source: where, its class if it is a method, and itself."""

    place: str
    owner: str | None
    node: Function

    @property
    def is_test(self) -> bool:
        """Whether it is one of the tests and fixtures that `keydesk.testing` hands out: their name says it all."""
        return self.place.startswith("testing/") and (
            self.node.name.startswith("test_") or any("fixture" in ast.unparse(d) for d in self.node.decorator_list)
        )

    @property
    def name(self) -> str:
        return f"{self.owner}.{self.node.name}" if self.owner else self.node.name


def _defined(place: str, tree: ast.Module) -> Iterator[Defined]:
    for node in tree.body:
        if isinstance(node, Function):
            yield Defined(place, None, node)
        elif isinstance(node, ast.ClassDef):
            yield from (Defined(place, node.name, inner) for inner in node.body if isinstance(inner, Function))


def test_everything_public_has_a_docstring() -> None:
    missing = []
    for place, _, tree in _trees():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and _public(node.name) and not ast.get_docstring(node):
                missing.append(f"{place}: {node.name}")
        for one in _defined(place, tree):
            public = _public(one.node.name) and _public(one.owner or "")
            if public and not one.is_test and not ast.get_docstring(one.node):
                missing.append(f"{place}: {one.name}")
    assert missing == []


# The Raises rule: a public function names every error it raises, itself or through functions of ours that it calls.
#
# Calls are followed where the name says which function is meant: functions of the same module and imported ones,
# methods of `self`, and classes, whose `__init__` (or `__post_init__`) runs. What an `except` around a call takes is
# taken off. Methods of other objects are not followed: their Protocol, in ports.py, says what they raise.

ERRORS_NOT_NAMED = {
    "AssertionError",  # says that something cannot be
    "_DigestsTaken",  # never leave their module
    "NotImplementedError",
    "Exit", "ClickException", "UsageError", "BadParameter", "Abort",  # how a command ends, in click's own words
}  # fmt: skip
# Errors that the survey sees and that cannot come: what raises them is handed only what was checked before.
CANNOT_BE = {
    "build.py:build_desk": {"InvalidField"},  # the prefix was checked when the settings were read
    "build.py:open_desk": {"InvalidField"},
    "cli/issuing.py:find_administrator": {"InvalidField"},  # asks for pages of the right size
    "cli/issuing.py:init": {"InvalidField"},
    "cli/serving.py:serve": {"InvalidField"},
    "flask/extension.py:Keydesk.__init__": {"InvalidField"},
    "flask/extension.py:Keydesk.init_app": {"InvalidField"},
    "flask/extension.py:Keydesk.optional": {"InvalidField"},  # asks for nothing
    "flask/extension.py:Keydesk.public": {"InvalidField"},
    "server/app.py:create_app": {"InvalidField"},
    "server/app.py:create_worker": {"InvalidField"},
    "stores/sql.py:SqlStore.check_chain": {"InvalidField"},  # asks for pages of the right size
}


class Survey:
    """What every function of the source raises, followed through their calls."""

    def __init__(self) -> None:
        self.functions: dict[str, Defined] = {}
        self.parents: dict[str, set[str]] = {}  # error class -> its ancestors, with itself
        self.names: dict[str, dict[str, str]] = {}  # module -> what a name in it means, as "module:name"
        trees = {place: tree for place, _, tree in _trees()}
        for place, tree in trees.items():
            self.names[place] = self._imports(place, tree)
            for one in _defined(place, tree):
                self.functions[f"{place}:{one.name}"] = one
            for node in tree.body:
                if isinstance(node, Function | ast.ClassDef):
                    self.names[place][node.name] = f"{place}:{node.name}"
                if isinstance(node, ast.ClassDef):
                    bases = {ast.unparse(base).split(".")[-1].split("[")[0] for base in node.bases}
                    self.parents.setdefault(node.name, set()).update(bases)
        self.found: dict[str, set[str]] = {name: set() for name in self.functions}
        self._settle()

    def _imports(self, place: str, tree: ast.Module) -> dict[str, str]:
        names = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("keydesk")):
                folder = Path(place).parent
                for _ in range(node.level - 1):
                    folder = folder.parent
                target = (folder / Path(*(node.module or "").split("."))).as_posix()
                for alias in node.names:
                    names[alias.asname or alias.name] = f"{target.removeprefix('./')}.py:{alias.name}"
        return names

    def ancestors(self, error: str) -> set[str]:
        """Return an error's class and all above it."""
        above = {error}
        for parent in self.parents.get(error, set()):
            above |= self.ancestors(parent)
        return above | {"Exception", "BaseException"}

    def _settle(self) -> None:
        changed = True
        while changed:
            changed = False
            for name, one in self.functions.items():
                errors = self._of_body(one, one.node.body, set())
                if errors - self.found[name]:
                    self.found[name] |= errors
                    changed = True

    def _of_body(self, one: Defined, body: list[ast.stmt], handled: set[str]) -> set[str]:
        found: set[str] = set()
        for node in body:
            found |= self._of_node(one, node, handled)
        return found

    def _of_node(self, one: Defined, node: ast.AST, handled: set[str]) -> set[str]:
        if isinstance(node, Function | ast.ClassDef | ast.Lambda):
            return set()  # runs when somebody calls it
        if isinstance(node, ast.Try):
            return self._of_try(one, node, handled)
        found: set[str] = set()
        if isinstance(node, ast.Raise):
            if node.exc is None:
                return set(handled)
            call = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            name = ast.unparse(call).split(".")[-1]
            found |= {name} if name[:1].isupper() or name[:1] == "_" else set()
        if isinstance(node, ast.With):
            for item in node.items:
                if isinstance(item.context_expr, ast.Call) and ast.unparse(item.context_expr.func) == "suppress":
                    taken = {ast.unparse(argument).split(".")[-1] for argument in item.context_expr.args}
                    inside = self._of_body(one, node.body, handled)
                    return {error for error in inside if not self.ancestors(error) & taken}
        if isinstance(node, ast.Call):
            found |= self._of_call(one, node)
        for child in ast.iter_child_nodes(node):
            found |= self._of_node(one, child, handled)
        return found

    def _of_try(self, one: Defined, node: ast.Try, handled: set[str]) -> set[str]:
        inside = self._of_body(one, node.body, handled)
        found = self._of_body(one, [*node.orelse, *node.finalbody], handled)
        for handler in node.handlers:
            kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type] if handler.type else []
            taken = {ast.unparse(kind).split(".")[-1] for kind in kinds} or {"BaseException"}
            caught = {error for error in inside if self.ancestors(error) & taken}
            inside -= caught
            found |= self._of_body(one, handler.body, caught)
        return found | inside

    def _of_call(self, one: Defined, node: ast.Call) -> set[str]:
        called = ast.unparse(node.func)
        if called.startswith("self.") and one.owner:
            return self.found.get(f"{one.place}:{one.owner}.{called.removeprefix('self.')}", set())
        target = self.names[one.place].get(called, "")
        if target not in self.functions and not (node.args or node.keywords):
            return set()  # a class made of its defaults, which are right
        made = (f"{target}.__init__", f"{target}.__post_init__")
        return self.found.get(target, set()).union(*(self.found.get(name, set()) for name in made))


def _named(docstring: str) -> set[str]:
    """Return the errors a docstring names in its `Raises:` section."""
    section = re.search(r"^Raises:\n((?:[ ]+.*\n?|\n)*)", docstring, re.MULTILINE)
    return set(re.findall(r"^ {4}(\w+(?:\.\w+)*):", section[1], re.MULTILINE)) if section else set()


def test_raises_are_named() -> None:
    survey = Survey()
    docs = {
        f"{place}:{node.name}": ast.get_docstring(node) or ""
        for place, _, tree in _trees()
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }
    wrong = []
    for name, one in survey.functions.items():
        own = one.node.name
        made = own in ("__init__", "__post_init__")  # what making an object raises stands in the class
        if not (_public(own) or made) or not _public(one.owner or "") or one.is_test:
            continue
        docstring = docs[f"{one.place}:{one.owner}"] if made else ast.get_docstring(one.node) or ""
        named = {error.split(".")[-1] for error in _named(docstring)}
        for error in sorted(survey.found[name] - ERRORS_NOT_NAMED - CANNOT_BE.get(name, set())):
            if not survey.ancestors(error) & named:
                wrong.append(f"{one.place}:{one.node.lineno} {one.name} raises {error} and does not say so")
    assert wrong == [], "\n".join(wrong)


def test_raises_survey_sees_what_there_is() -> None:
    """So that the rule above proves something: errors known to come through a call, a class and an `except`."""
    found = Survey().found
    assert found["keys/record.py:parse_fields"] >= {"InvalidField"}
    assert found["keys/scopes.py:Requirement.__init__"] >= {"InvalidField"}
    assert found["keys/digest.py:parse_pepper"] == {"InvalidField"}  # ValueError is taken
    assert found["desk.py:Desk.require"] >= {"Refused", "InvalidField"}
    assert found["build.py:open_desk"] >= {"SettingsError"}

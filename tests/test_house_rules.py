"""What a script can see of the style: words, sizes, comments, lines, cycles, documented doors."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "dofsuite").rglob("*.py"))
TREES = {path: ast.parse(path.read_text()) for path in FILES}
NAMED_FOR_NOTHING = {"utils", "common", "helpers", "misc"}
UNFINISHED = re.compile(r"\b(FIXME|XXX|NotImplementedError|placeholder|stub)\b")
MOST_IN_A_FILE = 200
MOST_STATEMENTS = 30
"""Of one function; comments and docstrings are free, so that nothing is split to please a test."""

PRIVATE_WORDS = re.compile(
    r"_?(asks?|asked|told|untold|carried|hollow|apart|rises|dealt|let_learn|turning|whole|settle"
    r"|waiting|TakingTurns|Ask|Asked|Carried|Made|Painter|Answered|seen|made|seen_\w+|\w+_told"
    r"|fooling\w*|stand_in\w*)"
)
"""Words that a reader from the field would have to learn first."""
OF_A_SET = {"seen", "made"}
"""Fine for a set of what was already met."""
HOLD_OLD_NAMES = {
    "dofsuite/training/run/renamed_keys.py",
    "dofsuite/training/checkpoints/compatibility.py",
}
"""Files that read what was written under old names."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def identifiers(tree: ast.AST) -> set[str]:
    """Every name that a file defines, takes or uses."""
    fields = ("name", "arg", "attr", "id", "asname")
    found = {getattr(node, field, None) for node in ast.walk(tree) for field in fields}
    return {name for name in found if isinstance(name, str)}


def functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return [node for node in ast.walk(tree) if isinstance(node, kinds)]


def body_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.stmt]:
    return function.body[1:] if ast.get_docstring(function) is not None else function.body


# --- words -----------------------------------------------------------------------------------


def sets_of(tree: ast.AST) -> set[str]:
    """Variables that a file assigns a set to."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign | ast.Assign):
            function = getattr(getattr(node.value, "func", None), "id", None)
            if isinstance(node.value, ast.Set | ast.SetComp) or function == "set":
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def test_identifiers_are_the_field_s_words() -> None:
    private = []
    for path, tree in TREES.items():
        if name_of(path) in HOLD_OLD_NAMES or "optics" in path.parts:
            continue
        names = {name for name in identifiers(tree) if PRIVATE_WORDS.fullmatch(name)}
        private += [f"{name_of(path)}: {name}" for name in names - (OF_A_SET & sets_of(tree))]
    assert private == []


def keys_and_values(node: object) -> set[str]:
    if isinstance(node, dict):
        return set(map(str, node)) | {
            word for value in node.values() for word in keys_and_values(value)
        }
    if isinstance(node, list):
        return {word for value in node for word in keys_and_values(value)}
    return {str(node)}


def test_experiments_use_the_field_s_words() -> None:
    words = set()
    for path in (ROOT / "experiments").rglob("*.yaml"):
        words |= keys_and_values(yaml.safe_load(path.read_text()))
    for path in (ROOT / "experiments" / "sweeps").glob("*.txt"):
        words |= {
            part
            for option in re.findall(r"--(\S+)", path.read_text())
            for part in option.split(".")
        }
    assert {word for word in words if PRIVATE_WORDS.fullmatch(word)} == set()


def test_golden_losses_are_logged_under_the_field_s_words() -> None:
    names = {
        line.split()[1]
        for path in (ROOT / "tests" / "golden").glob("*.txt")
        for line in path.read_text().splitlines()
    }
    assert {
        name for name in names if PRIVATE_WORDS.fullmatch(name.split("/")[0].split("_")[0])
    } == set()


# --- files and functions ---------------------------------------------------------------------


def test_no_file_has_more_than_200_statements() -> None:
    sizes = {path: sum(isinstance(n, ast.stmt) for n in ast.walk(t)) for path, t in TREES.items()}
    assert [name_of(path) for path, size in sizes.items() if size > MOST_IN_A_FILE] == []


def test_no_file_is_named_for_nothing() -> None:
    assert [
        name_of(path)
        for path in FILES
        if path.stem in NAMED_FOR_NOTHING or path.stem.startswith("base_")
    ] == []


def test_no_function_has_more_statements_than_a_page() -> None:
    long = []
    for path, tree in TREES.items():
        for function in functions(tree):
            statements = sum(
                isinstance(node, ast.stmt) for part in body_of(function) for node in ast.walk(part)
            )
            if statements > MOST_STATEMENTS and function.name != "__init__":
                long.append(f"{name_of(path)}:{function.lineno} {function.name}: {statements}")
    assert long == []


def test_functions_of_more_than_15_lines_say_their_stages() -> None:
    silent = []
    for path, tree in TREES.items():
        lines = path.read_text().splitlines()
        for function in functions(tree):
            body = body_of(function)
            if not body or function.name == "__init__":
                continue
            first, last = body[0].lineno, function.end_lineno or body[0].lineno
            commented = any(line.lstrip().startswith("#") for line in lines[first - 1 : last])
            if last - first + 1 > 15 and not commented:
                silent.append(f"{name_of(path)}:{function.lineno} {function.name}")
    assert silent == []


def test_lines_fit_in_100_characters() -> None:
    assert [
        f"{name_of(path)}:{number}"
        for path in FILES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > 100
    ] == []


def names_its_parts(value: ast.expr) -> bool:
    """Whether a value is a shape (`x.shape`, `x.shape[-2:]`) or comes from a call."""
    value = value.value if isinstance(value, ast.Subscript) else value
    return isinstance(value, ast.Call) or getattr(value, "attr", None) == "shape"


def test_at_most_two_names_are_assigned_at_once() -> None:
    """A shape, or the result of a call, may be unpacked: its parts have names at their source."""
    crowded = []
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and not names_its_parts(node.value):
                names = max(len(t.elts) if isinstance(t, ast.Tuple) else 1 for t in node.targets)
                if names > 2:
                    crowded.append(f"{name_of(path)}:{node.lineno}")
    assert crowded == []


def test_nothing_is_left_unfinished() -> None:
    assert [name_of(path) for path in FILES if UNFINISHED.search(path.read_text())] == []


# --- imports and doors -----------------------------------------------------------------------


def imports_of(path: Path, modules: dict[str, Path]) -> set[str]:
    """What a file imports of the package: at its top, in functions, for type checkers."""
    found = set()
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from room import Name`: the room's stub says which file Name lives in.
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                found.add(submodule if submodule in modules else home_of(node.module, alias.name))
    return found & modules.keys()


def home_of(module: str, name: str) -> str:
    stub = ROOT.joinpath(*module.split("."), "__init__.pyi")
    if not stub.is_file():
        return module
    for node in ast.parse(stub.read_text()).body:
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}:
            return str(node.module)
    return module


def test_no_two_files_import_each_other_even_indirectly() -> None:
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in FILES
    }
    graph = {module: imports_of(path, modules) - {module} for module, path in modules.items()}
    # Peel off modules that import nothing that is left: what cannot be peeled off is a cycle.
    while leaves := {module for module, found in graph.items() if not found & graph.keys()}:
        graph = {module: found for module, found in graph.items() if module not in leaves}
    assert graph == {}


def exported() -> list[tuple[str, str]]:
    doors = []
    for stub in sorted((ROOT / "dofsuite").rglob("__init__.pyi")):
        for node in ast.parse(stub.read_text()).body:
            if isinstance(node, ast.ImportFrom):
                doors += [(str(node.module), alias.name) for alias in node.names]
    return doors


def test_what_a_room_exports_is_documented() -> None:
    undocumented = []
    for module, name in exported():
        tree = TREES[ROOT.joinpath(*module.split(".")).with_suffix(".py")]
        for node in tree.body:
            kinds = ast.FunctionDef | ast.ClassDef
            if isinstance(node, kinds) and node.name == name and ast.get_docstring(node) is None:
                undocumented.append(f"{module}.{name}")
    assert undocumented == []


def test_every_file_with_shapes_has_them_checked_in_the_tests() -> None:
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    (option,) = [each for each in options["addopts"] if each.startswith("--jaxtyping-packages=")]
    rooms = option.partition("=")[2].split(",")[:-1]
    with_shapes = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in FILES
        if "from jaxtyping import" in path.read_text()
    ]
    assert with_shapes
    unchecked = [
        name
        for name in with_shapes
        if not f"{name}.".startswith(tuple(f"{room}." for room in rooms))
    ]
    assert unchecked == []

"""The shape of the code: imports go one way, rooms are entered by their public names, each heavy library has one home."""

import ast
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from tests import ROOT

# Each may import those before it.
PACKAGES = ["sppo_ray", "actors", "jobs"]
ROOMS = {
    "sppo_ray": [
        "errors", "loading", "preference", "loss", "records", "config", "models", "run_folder", "prompts", "sampling", "judging",
        "training",
        "evaluation", "reporting", "planning", "playground", "instructions", "theory", "preparation", "web", "fakes",
    ],
    "actors": ["cluster", "engines", "run", "service"],
}  # fmt: skip

# The one module, or folder of a wrapped model, that touches each library.
HOMES = {
    "vllm": {
        "sppo_ray/sampling/environment.py",
        "sppo_ray/sampling/vllm_engine.py",
        "sppo_ray/sampling/adapter_slot.py",
        "sppo_ray/sampling/one_adapter.py",
        "sppo_ray/sampling/short_answers.py",
    },
    "deepspeed": {"sppo_ray/training/policy.py"},
    "llm_blender": {"sppo_ray/judging/pairrm/model.py"},
    "numba": {"sppo_ray/judging/pairrm/bias.py"},
    "peft": {"sppo_ray/training/adapter.py"},
}
# Its whole purpose is to run other libraries' code beside the product's.
BENCHES = ("jobs/benchmarks/", "jobs/bench.py", "jobs/gpu/", "jobs/gpu_bench.py")

MOST_LINES = 300


def sources(*folders: str) -> list[Path]:
    found = [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]
    assert found
    return found


def imports(file: Path) -> Iterator[tuple[str, str | None]]:
    """(module, name) of each import anywhere in a file; a name is None for `import module`."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            yield getattr(node.args[0], "value", ""), None


def is_bench(file: Path) -> bool:
    return str(file.relative_to(ROOT)).startswith(BENCHES)


def room_of(file: Path) -> str:
    return file.relative_to(ROOT).with_suffix("").parts[1]


def entered(file: Path) -> Iterator[tuple[str, str, list[str]]]:
    """(package, room, the rest of the dotted path) of each import of a room of this project."""
    for module, name in imports(file):
        path = [*module.split("."), *([name] if name else [])]
        if path[0] in ROOMS and len(path) > 1 and path[1] in ROOMS[path[0]]:
            yield path[0], path[1], path[2:]


def public_names(package: str, room: str) -> set[str]:
    init = ROOT / package / room / "__init__.py"
    for node in ast.parse(init.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return set(ast.literal_eval(node.value))
    raise AssertionError(f"{init} has no __all__")


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_those_below_them(package: str) -> None:
    above = {"ray"} if package == "sppo_ray" else set()
    above |= set(PACKAGES[PACKAGES.index(package) + 1 :])
    wrong = [
        (file.name, module) for file in sources(package) for module, _ in imports(file) if module.split(".")[0] in above
    ]
    assert wrong == []


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_import_only_those_before_them(package: str) -> None:
    order = ROOMS[package]
    wrong = [
        f"{file.relative_to(ROOT)} imports {room}"
        for file in sources(package)
        if room_of(file) in order
        for other, room, _ in entered(file)
        if other == package and order.index(room) > order.index(room_of(file))
    ]
    assert wrong == []


@pytest.mark.parametrize("package", ROOMS)
def test_every_room_is_in_the_order(package: str) -> None:
    there = {
        path.stem for path in (ROOT / package).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert there - {"__init__"} == set(ROOMS[package])


def test_rooms_are_entered_by_their_public_names() -> None:
    """`from room import name` or `from room.module import name`, where `__all__` of the room has the name or the module."""
    wrong = []
    for file in sources(*PACKAGES):
        if is_bench(file):
            continue
        here = file.relative_to(ROOT).parts[0], room_of(file)
        for package, room, rest in entered(file):
            if (package, room) == here or not (ROOT / package / room).is_dir() or not rest:
                continue
            if rest[0] not in public_names(package, room):
                wrong.append(f"{file.relative_to(ROOT)}: {package}.{room}.{rest[0]}")
    assert wrong == []


@pytest.mark.parametrize("package", ROOMS)
def test_every_public_name_is_there_and_used_elsewhere_or_documented(package: str) -> None:
    used = {(p, room, rest[0]) for file in sources(*PACKAGES, "tests") for p, room, rest in entered(file) if rest}
    docs = "".join(page.read_text("utf-8") for page in chain((ROOT / "docs").rglob("*.md"), [ROOT / "README.md"]))
    rooms = [room for room in ROOMS[package] if (ROOT / package / room).is_dir()]
    idle = [
        f"{package}.{room}.{name}"
        for room in rooms
        for name in public_names(package, room)
        if (package, room, name) not in used and name not in docs
    ]
    assert idle == []


@pytest.mark.parametrize("library", HOMES)
def test_a_heavy_library_has_one_home(library: str) -> None:
    found = {
        str(file.relative_to(ROOT))
        for file in sources(*PACKAGES)
        for module, _ in imports(file)
        if module.split(".")[0] == library and not is_bench(file)
    }
    assert found == HOMES[library]


def test_no_file_is_over_300_lines() -> None:
    long = {
        str(file.relative_to(ROOT)): n
        for file in sources(*PACKAGES, "tests")
        if (n := len(file.read_text("utf-8").splitlines())) > MOST_LINES
    }
    assert long == {}


def test_no_module_only_forwards_to_another() -> None:
    """Apart from `__init__`, each module defines something of its own."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
    forwarders = [
        str(file.relative_to(ROOT))
        for file in sources(*PACKAGES)
        if not file.name.startswith("__")
        and not any(isinstance(node, kinds) for node in ast.parse(file.read_text("utf-8")).body)
    ]
    assert forwarders == []


def test_the_top_of_the_library_is_short() -> None:
    assert len(list((ROOT / "sppo_ray").glob("*.py"))) <= 6

"""Who may import whom, and what no source file may hold. Run: pytest tests/test_architecture.py.

The checks read the sources with `ast`; each check is tried on a piece of code that breaks it, so
that none of them can pass because it sees nothing.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("linear_eval", "ssl_bf")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
BENCHMARKS = sorted((ROOT / "bench").rglob("*.py"))
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in SOURCES
}
MAX_LINES = 250
# The one module that may read a pickle, by torch's restricted reader, and name its error.
PICKLE_READER = ROOT / "linear_eval" / "checkpoints" / "tensor_file.py"
# The one module that runs a statement by itself: one of our own source.
SOURCE_READER = ROOT / "linear_eval" / "strict_config" / "from_source.py"
RUNS = ["exec(compile(tree, module, 'exec', dont_inherit=True), names)"]
NO_NAMES = {"utils", "util", "common", "misc", "helpers", "core", "base"}
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
HEAVY = {"faiss", "lightly", "tensorboard", "timm", "matplotlib", "sklearn", "umap", "wandb"}
HEAVY |= {"onnx", "onnxscript", "onnxruntime", "jinja2", "tabulate", "submitit", "pyarrow", "scipy"}
MUST_START_FAST = [
    "linear_eval",
    "ssl_bf",
    "linear_eval.system.errors",
    "linear_eval.strict_config.reader",
]
MUST_START_FAST += [f"{package}.{each}" for package in PACKAGES for each in ("cli", "__main__")]

# A room (a folder, or a module at the root) imports only rooms that stand before it.
ROOMS = {
    "linear_eval": (
        *("system", "strict_config", "datasets", "backbones", "checkpoints", "images", "features"),
        *("search", "classifiers", "evaluators", "results", "evaluation", "comparison"),
        *("own_images", "charts", "report", "from_python", "commands", "cli", "__main__"),
    ),
    "ssl_bf": (
        *("keyed_random", "shards", "schedules", "optimizers", "losses", "layers", "parts"),
        *("relations", "methods", "pixels", "samplers", "views", "trackers", "health", "config"),
        *("run", "choices", "ranks", "saving", "monitor", "build", "captured", "train"),
        *("doctor", "verify", "study", "scan", "worth", "attention", "commands", "from_python"),
        *("cli", "__main__"),
    ),
}
# Files that hold a member of a union: all of these rooms that define a class ...Config with a name.
MEMBERS = {
    f"ssl_bf.{room}.{path.stem}"
    for room in ("methods", "relations")
    for path in (ROOT / "ssl_bf" / room).glob("[!_]*.py")
    if re.search(r"^    name: Literal\[", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
}
DEFAULTS = {("ssl_bf.config", "ssl_bf.relations.no_relation")}  # what a config means that has none
MAX_FILES = 17  # of a room, beside its __init__ and its members, which are as many as there are
IS_MEMBER = re.compile(r"^    name: Literal\[|^EVALUATOR = Evaluator\(", flags=re.MULTILINE)


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported(tree: ast.AST, module: str, known: set[str]) -> set[str]:
    """Full names of what a module imports, anywhere in it; a submodule stands for itself."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")[: -node.level] if node.level else []
            source = ".".join([*package, *([node.module] if node.module else [])])
            for alias in node.names:
                member = f"{source}.{alias.name}"
                names.add(member if member in known else source)
    return names


def is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def known_to_the_judge(graph: dict[str, set[str]]) -> list[str]:
    """Imports of the contestant by the judge."""
    return [
        f"{module} imports {name}"
        for module, names in graph.items()
        for name in names
        if is_in(module, "linear_eval") and is_in(name, "ssl_bf")
    ]


def upward_arrows(graph: dict[str, set[str]]) -> list[str]:
    """Imports of a room that stands behind one's own, or in no list."""
    found = []
    for module, names in graph.items():
        package, _, inner = module.partition(".")
        order = ROOMS.get(package, ())
        own = inner.partition(".")[0]
        for name in names if inner and order else ():
            room = name.removeprefix(f"{package}.").partition(".")[0]
            if name.startswith(f"{package}.") and (
                own not in order or room not in order or order.index(room) > order.index(own)
            ):
                found.append(f"{module} imports {name}")
    return found


def find_cycle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one import cycle, or nothing."""
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module not in done and module in graph:
            for name in sorted(graph[module]):
                cycle = visit(name, [*path, module])
                if cycle:
                    return cycle
            done.add(module)
        return []

    return next((cycle for module in graph if (cycle := visit(module, []))), [])


def keyword(call: ast.Call, name: str) -> object:
    """The constant given for a keyword argument; None if it is not given."""
    values = [each.value for each in call.keywords if each.arg == name]
    return getattr(values[0], "value", ast.unparse(values[0])) if values else None


def forbidden_call(call: ast.Call, *, may_read_pickles: bool) -> bool:
    name = ast.unparse(call.func)
    last = name.rpartition(".")[2]
    if name == "torch.load" and may_read_pickles:
        return (
            keyword(call, "weights_only") is not True or keyword(call, "pickle_module") is not None
        )
    return (
        name in ("eval", "exec", "torch.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load")
        or last == "extractall"
        or keyword(call, "allow_pickle") not in (None, False)
        or (keyword(call, "strict") is False and name != "zip")
    )


def forbidden_handler(handler: ast.ExceptHandler) -> bool:
    """`except:` and `except Exception`; `except BaseException` may clean up and raise again."""
    kinds = [] if handler.type is None else ast.unparse(handler.type).strip("()").split(", ")
    last = handler.body[-1]
    raises_again = isinstance(last, ast.Raise) and last.exc is None
    return not kinds or "Exception" in kinds or ("BaseException" in kinds and not raises_again)


def forbidden_names(node: ast.ImportFrom, *, may_read_pickles: bool) -> bool:
    top = (node.module or "").split(".")[0]
    names = {alias.name for alias in node.names}
    if may_read_pickles and names == {"UnpicklingError"}:
        return False
    return top in PICKLES or (top in ("torch", "yaml") and "load" in names)


def forbidden(tree: ast.AST, *, may_read_pickles: bool = False) -> Iterator[str]:
    """What in a source file is dangerous or hides failures, with its line."""
    for node in ast.walk(tree):
        found = False
        if isinstance(node, ast.Import):
            found = any(alias.name.split(".")[0] in PICKLES for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found = forbidden_names(node, may_read_pickles=may_read_pickles)
        elif isinstance(node, ast.Call):
            found = forbidden_call(node, may_read_pickles=may_read_pickles)
        elif isinstance(node, ast.ExceptHandler):
            found = forbidden_handler(node)
        if found:
            yield f"line {node.lineno}: {ast.unparse(node).splitlines()[0]}"  # type: ignore[attr-defined]


def imports_at_start(tree: ast.Module) -> set[str]:
    """What importing the module imports, as full names (some of them of functions)."""
    names = set()
    waiting: list[ast.AST] = [*tree.body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            waiting += ast.iter_child_nodes(node)
    return names


GRAPH = {
    module: imported(
        parse(path), module if path.stem != "__init__" else f"{module}.__init__", set(MODULES)
    )
    for module, path in MODULES.items()
}


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_the_judge_does_not_know_the_contestant() -> None:
    assert known_to_the_judge(GRAPH) == []


def test_rooms_import_only_rooms_below_them() -> None:
    graph = {module: {name for name in names if name in MODULES} for module, names in GRAPH.items()}
    assert upward_arrows(graph) == []


@pytest.mark.parametrize("package", ROOMS)
def test_the_list_of_rooms_is_what_is_there_and_no_room_is_crowded(package: str) -> None:
    places = [path for path in (ROOT / package).iterdir() if path.name != "__pycache__"]
    modules = {path.stem for path in places if path.suffix == ".py"} - {"__init__"}
    rooms = {path.name for path in places if path.is_dir()}
    assert {*ROOMS[package]} == modules | rooms
    for room in rooms - {"datasets"}:
        files = [*(ROOT / package / room).glob("[!_]*.py")]
        members = [each for each in files if IS_MEMBER.search(each.read_text(encoding="utf-8"))]
        assert len(files) - len(members) <= MAX_FILES, room


def asks_for_a_member(tree: ast.AST, module: str, known: set[str]) -> list[str]:
    """What of a module outside `methods` and `relations` is about one of them by name."""
    found = sorted(imported(tree, module, known) & MEMBERS)
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and re.search(
            r"\b(method|relation)\.name\b", ast.unparse(node)
        ):
            found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_nothing_outside_their_rooms_asks_for_a_method_or_relation_by_name(path: Path) -> None:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    if not module.startswith(("ssl_bf.methods.", "ssl_bf.relations.")):
        asked = asks_for_a_member(parse(path), module, set(MODULES))
        assert [name for name in asked if (module, name) not in DEFAULTS] == []


@pytest.mark.parametrize(
    "code",
    [
        "from ssl_bf.methods.moco_v3 import MoCoV3",
        "from ssl_bf.relations import controls",
        "if config.method.name == 'moco_v3': pass",
        "is_plain = run.relation.name in ('none', 'copy')",
    ],
)
def test_the_check_finds_who_asks_for_a_member(code: str) -> None:
    assert len(asks_for_a_member(ast.parse(code), "ssl_bf.build", set(MODULES))) == 1


def test_no_module_imports_itself_through_others() -> None:
    # the top of a package names what is called from Python for type checkers, and imports it late
    assert find_cycle({name: GRAPH[name] for name in GRAPH.keys() - {*PACKAGES}}) == []


def test_the_top_of_a_package_is_asked_for_its_version_alone() -> None:
    for module, path in MODULES.items():
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.ImportFrom) and node.module in PACKAGES:
                names = {alias.name for alias in node.names}
                rooms = {name for name in names if f"{node.module}.{name}" in MODULES}
                assert names - rooms <= {"__version__"}, module


@pytest.mark.parametrize("path", [*SOURCES, *BENCHMARKS], ids=shown)
def test_a_source_file_fits_in_one_reading(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", [*SOURCES, *BENCHMARKS], ids=shown)
def test_a_source_file_holds_nothing_forbidden(path: Path) -> None:
    found = forbidden(parse(path), may_read_pickles=path == PICKLE_READER)
    lines = [each.partition(": ")[2] for each in found]
    assert lines == (RUNS if path == SOURCE_READER else [])


def test_the_module_that_reads_pickles_exists() -> None:
    assert "torch.load(" in PICKLE_READER.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_heavy_packages_are_imported_when_they_are_used(path: Path) -> None:
    names = imports_at_start(parse(path))
    assert [name for name in names if name.split(".")[0] in HEAVY] == []
    assert [name for name in names if is_in(name, "torch.utils.tensorboard")] == []


@pytest.mark.parametrize("module", [each for each in MUST_START_FAST if each in MODULES])
def test_a_command_shows_its_help_without_loading_torch(module: str) -> None:
    assert "torch" not in at_start_with_own(module, set())


def at_start_with_own(module: str, seen: set[str]) -> set[str]:
    """Top-level packages that importing one of our modules imports, through our own modules too."""
    seen.add(module)
    found = set()
    for name in imports_at_start(parse(MODULES[module])):
        found.add(name.split(".")[0])
        if name in MODULES and name not in seen:
            found |= at_start_with_own(name, seen)
    return found


def test_every_name_says_what_is_inside() -> None:
    for top in (*PACKAGES, "tests", "bench", "configs"):
        for path in (ROOT / top).rglob("*"):
            if path.is_dir() or path.suffix == ".py":
                assert path.stem.removeprefix("test_") not in NO_NAMES, path


def test_pretraining_never_opens_a_test_split() -> None:
    for path in (ROOT / "ssl_bf").rglob("*.py"):
        assert "open_test" not in path.read_text(encoding="utf-8"), path


def test_every_test_file_has_a_source_file() -> None:
    for package in PACKAGES:
        for path in (ROOT / "tests" / package).rglob("*.py"):
            if path.name == "conftest.py":
                continue
            inner = path.relative_to(ROOT / "tests")
            source = ROOT / inner.parent / path.name.removeprefix("test_")
            assert path.name.startswith("test_"), path
            assert source.is_file() or source.with_suffix("").is_dir(), path


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "from torch import load",
        "torch.load(path, weights_only=True)",
        "yaml.load(text, Loader=SafeLoader)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=trusted)",
        "model.load_state_dict(state, strict=False)",
        "eval('1')",
        "archive.extractall(folder)",
        "try: pass\nexcept Exception: pass",
        "try: pass\nexcept (OSError, Exception) as error: raise",
        "try: pass\nexcept: pass",
        "try: pass\nexcept BaseException: pass",
    ],
)
def test_the_check_finds_what_is_forbidden(code: str) -> None:
    assert len(list(forbidden(ast.parse(code)))) == 1


@pytest.mark.parametrize(
    "code",
    [
        "model.eval()",
        "np.load(path, allow_pickle=False)",
        "zip(a, b, strict=False)",
        "yaml.safe_load(text)",
        "try: pass\nexcept (OSError, ValueError): pass",
        "try: pass\nexcept BaseException:\n    close()\n    raise",
        "from safetensors.torch import load_file",
    ],
)
def test_the_check_leaves_what_is_allowed(code: str) -> None:
    assert list(forbidden(ast.parse(code))) == []


@pytest.mark.parametrize(
    ("code", "is_allowed"),
    [
        ("torch.load(path, weights_only=True, mmap=True)", True),
        ("from pickle import UnpicklingError", True),
        ("torch.load(path)", False),
        ("torch.load(path, weights_only=False)", False),
        ("torch.load(path, weights_only=trusted)", False),
        ("torch.load(path, **options)", False),
        ("torch.load(path, weights_only=True, pickle_module=dill)", False),
        ("from torch import load", False),
        ("from pickle import UnpicklingError, loads", False),
        ("import pickle", False),
    ],
)
def test_the_module_that_reads_pickles_may_read_tensors_only(code: str, is_allowed: bool) -> None:
    assert list(forbidden(ast.parse(code))) != []
    assert (list(forbidden(ast.parse(code), may_read_pickles=True)) == []) == is_allowed


@pytest.mark.parametrize(
    "code", ["from ssl_bf.methods import simsiam", "def f():\n    import ssl_bf"]
)
def test_the_check_finds_a_judge_that_knows_the_contestant(code: str) -> None:
    names = imported(ast.parse(code), "linear_eval.knn", {"ssl_bf.methods.simsiam"})
    assert len(known_to_the_judge({"linear_eval.knn": names})) == 1


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("ssl_bf.methods.simsiam", "from ssl_bf import build"),
        ("ssl_bf.methods.simsiam", "from .. import train"),
        ("ssl_bf.parts.queue", "from ssl_bf.methods.method import Method"),
    ],
)
def test_the_check_reads_imports_of_every_form(module: str, code: str) -> None:
    known = {"ssl_bf.build", "ssl_bf.train", "ssl_bf.methods.simsiam", "ssl_bf.methods.method"}
    assert len(upward_arrows({module: imported(ast.parse(code), module, known)})) == 1


@pytest.mark.parametrize(
    ("module", "name", "is_found"),
    [
        ("linear_eval.search.exact", "linear_eval.evaluators.knn", True),
        ("linear_eval.search.exact", "linear_eval.helpers", True),
        ("linear_eval.helpers", "linear_eval.system.errors", True),
        ("linear_eval.search.exact", "linear_eval.features.rows", False),
        ("linear_eval.search.exact", "linear_eval.search.task", False),
        ("linear_eval.search.exact", "torch", False),
    ],
)
def test_the_check_finds_an_arrow_to_a_room_above(module: str, name: str, is_found: bool) -> None:
    assert upward_arrows({module: {name}}) == [f"{module} imports {name}"] * is_found


def test_the_check_finds_a_cycle() -> None:
    graph = {"a": {"b"}, "b": {"os", "c"}, "c": {"a", "d"}, "d": set()}
    assert find_cycle(graph) == ["a", "b", "c", "a"]
    assert find_cycle({**graph, "c": {"d"}}) == []


def test_the_check_tells_imports_at_the_start_from_later_ones() -> None:
    code = (
        "try:\n    import a\nfinally: pass\ndef f():\n    import b\nclass C:\n    from c import d"
    )
    assert imports_at_start(ast.parse(code)) == {"a", "c", "c.d"}

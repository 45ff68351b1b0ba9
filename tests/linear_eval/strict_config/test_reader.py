"""Run: pytest tests/linear_eval/test_strict_config.py."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from linear_eval.strict_config.reader import ConfigError, load_config, parse_config, to_yaml


@dataclass(frozen=True)
class Blur:
    radius: float = 1.0


@dataclass(frozen=True)
class Sharp:
    strength: float = 2.0


@dataclass(frozen=True, kw_only=True)
class Moco:
    name: Literal["moco_v2"] = "moco_v2"
    queue_size: int = 64
    temperature: float = 0.2
    symmetric: bool = False
    filter: Blur = field(default_factory=Blur)

    def __post_init__(self) -> None:
        if self.queue_size < 1:
            raise ValueError(f"queue_size: must be >= 1, got {self.queue_size}")
        if self.temperature <= 0:
            raise ValueError(f"temperature: must be > 0, got {self.temperature}")


@dataclass(frozen=True, kw_only=True)
class SimSiam:
    name: Literal["simsiam"] = "simsiam"
    hidden_dim: int = 512
    temperature: float = 0.5
    filter: Sharp = field(default_factory=Sharp)


@dataclass(frozen=True, kw_only=True)
class Folder:
    name: Literal["folder"] = "folder"
    root: str
    subset: str | None = None


@dataclass(frozen=True, kw_only=True)
class Textures:
    name: Literal["textures"] = "textures"
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Config:
    data: Folder | Textures
    method: Moco | SimSiam = field(default_factory=Moco)
    speed: Blur = field(default_factory=Blur)
    monitor: Sharp | None = None
    key_dropout: Literal["on", "off"] = "on"
    precision: Literal["float32", "bfloat16"] = "float32"
    context: int | Literal["local"] = 32
    pairs: Literal["all", "plain_keys"] | tuple[tuple[float, ...], ...] = "all"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    ks: tuple[int, ...] = (1, 5)
    names: list[str] = field(default_factory=list)
    chain: tuple[Blur, ...] = ()
    epochs: int = 10
    batch_size: int = 8
    rate: float = 0.1
    limit: int | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs: must be >= 1, got {self.epochs}")
        if self.batch_size < 2:
            raise ValueError(f"batch_size: must be >= 2, got {self.batch_size}")
        if self.epochs > 10 * self.batch_size:
            raise ValueError("too many epochs for the batch size")


TEXTURES = {"data": {"name": "textures"}}


def parse(mapping: dict[str, Any], *overrides: str) -> Config:
    return parse_config(Config, {**TEXTURES, **mapping}, overrides).value


def problem(mapping: dict[str, Any], *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(mapping, *overrides)
    return str(caught.value)


def test_an_empty_file_gives_the_defaults() -> None:
    assert parse({}) == Config(data=Textures())


@pytest.mark.parametrize(
    ("override", "name", "value"),
    [
        ("epochs=3", "epochs", 3),
        ("rate=1e-4", "rate", 1e-4),
        ("rate=3", "rate", 3.0),
        ("limit=null", "limit", None),
        ("limit=5", "limit", 5),
        ("key_dropout=off", "key_dropout", "off"),
        ("key_dropout=on", "key_dropout", "on"),
        ("precision=bfloat16", "precision", "bfloat16"),
        ("context=local", "context", "local"),
        ("context=16", "context", 16),
        ("pairs=plain_keys", "pairs", "plain_keys"),
        ("pairs=[[1, 0], [0.5, 0]]", "pairs", ((1.0, 0.0), (0.5, 0.0))),
        ("mean=[0, 0.5, 1e-2]", "mean", (0.0, 0.5, 0.01)),
        ("ks=[20]", "ks", (20,)),
        ("ks=[]", "ks", ()),
        ("names=[pixels, runs/a b]", "names", ["pixels", "runs/a b"]),
        ("names=['a, b']", "names", ["a, b"]),
        ("chain=[{radius: 3}, {}]", "chain", (Blur(3.0), Blur())),
        ("monitor.strength=3", "monitor", Sharp(3.0)),
        ("speed={radius: 4}", "speed", Blur(4.0)),
        ("note=007", "note", "007"),
        ("note=/data/run #2: a=b", "note", "/data/run #2: a=b"),
        ("note=[old] images", "note", "[old] images"),
        ("note='null'", "note", "null"),
        ("note=no", "note", "no"),
    ],
)
def test_an_override_is_read_as_the_type_of_its_field(override: str, name: str, value: Any) -> None:
    read = getattr(parse({}, override), name)
    assert read == value
    assert type(read) is type(value)


def test_what_plain_yaml_loading_makes_of_numbers_and_switches_is_accepted() -> None:
    mapping = yaml.safe_load("{rate: 1e-4, key_dropout: off, note: '1e-4', limit: null}")
    assert mapping["rate"] == "1e-4"
    assert mapping["key_dropout"] is False
    config = parse(mapping)
    assert (config.rate, config.key_dropout, config.note) == (1e-4, "off", "1e-4")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("method.queue_szie=3", "method.queue_szie: no such key. Did you mean 'queue_size'?"),
        ("queue_size=3", "queue_size: no such key. Did you mean 'method.queue_size'?"),
        ("speed.zzz=3", "speed.zzz: no such key. Known: radius"),
        (
            "method.hidden_dim=3",
            "method.hidden_dim: no such key of 'moco_v2', only of simsiam. "
            "Known: name, queue_size, temperature, symmetric, filter",
        ),
        (
            "method.name=mocov2",
            "method.name: 'mocov2' is not one of ['moco_v2', 'simsiam']. Did you mean 'moco_v2'?",
        ),
        ("method.name=3", "method.name: '3' is not one of ['moco_v2', 'simsiam']"),
        ("epochs=ten", "epochs: expected a whole number, got 'ten' (str)"),
        ("epochs=3.0", "epochs: expected a whole number, got 3.0 (float)"),
        ("epochs=1e3", "epochs: expected a whole number, got 1000.0 (float)"),
        ("epochs=true", "epochs: expected a whole number, got True (bool)"),
        ("epochs='3'", "epochs: expected a whole number, got '3' (str)"),
        ("epochs=", "epochs: expected a whole number, got null"),
        ("epochs.x=3", "epochs: expected a whole number, got a section with the keys x"),
        ("rate=nan", "rate: expected a number, got 'nan' (str)"),
        ("rate=1e999", "rate: expected a number, got '1e999' (str)"),
        ("rate=yes", "rate: expected a number, got True (bool)"),
        ("method.symmetric=1", "method.symmetric: expected true or false, got 1 (int)"),
        ("note=null", "note: expected text, got null"),
        (
            "precision=bfloat61",
            "precision: 'bfloat61' is not one of ['float32', 'bfloat16']. Did you mean 'bfloat16'?",
        ),
        (
            "context=locl",
            "context: expected a whole number or 'local', got 'locl' (str). Did you mean 'local'?",
        ),
        (
            "pairs=[[1, x]]",
            "pairs: expected one of ['all', 'plain_keys'] or a list of lists of numbers, "
            "got [[1, 'x']] (list)",
        ),
        ("mean=[0, 1]", "mean: expected a list of 3 (a number, a number, a number), got 2 values"),
        ("ks=20", "ks: expected a list of whole numbers, got 20 (int); write [20]"),
        ("ks=x", "ks: expected a list of whole numbers, got 'x' (str)"),
        ("ks=[1, 2", "ks: expected a list of whole numbers, got '[1, 2' (str)"),
        (
            "ks=[1, x]",
            "ks: in its list, expected a whole number, got 'x' (str)",
        ),
        ("chain=[{radios: 3}]", "chain[0].radios: no such key. Did you mean 'radius'?"),
        ("chain=[3]", "chain[0]: is a section, got 3 (int); write {KEY: VALUE, ...} with KEY one"),
        ("method=simsiam", "method: is a section, got 'simsiam' (str); write method.name=simsiam"),
        (
            "speed=null",
            "speed: is a section, got null; write speed.KEY=VALUE with KEY one of radius",
        ),
        ("data.name=folder", "data.root: missing, expected text; give it as data.root=VALUE"),
        ("epochs=0", "epochs: must be >= 1, got 0"),
        ("method.queue_size=0", "method.queue_size: must be >= 1, got 0"),
        ("epochs=100", "too many epochs for the batch size"),
        ("epochs", "epochs: not an override, expected key=value as in epochs=10"),
        ("=3", "=3: not an override, expected key=value as in epochs=10"),
        ("method..queue_size=3", "method..queue_size=3: not an override, expected key=value"),
        ("--epochs=3", "--epochs: no such key. Did you mean 'epochs'?"),
    ],
)
def test_a_problem_names_the_key_what_was_expected_and_the_way_out(
    override: str, message: str
) -> None:
    found = problem({}, override)
    assert found.startswith(message)
    assert found == message or message.endswith(("one", "key=value"))


def test_a_missing_choice_of_section_lists_the_names() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(Config, {})
    assert str(caught.value) == (
        "data.name: missing, expected one of ['folder', 'textures']; give it as data.name=NAME"
    )


def test_all_problems_stand_in_one_line() -> None:
    found = problem(
        {"epochs": "ten", "speed": {"radius": []}, "method": {"queue_szie": 3, "temperature": -1}},
        "batch_size=1",
        "method.queue_size=0",
        "what",
        "data.nam=x",
    )
    assert "\n" not in found
    assert {each.split(":")[0] for each in found.split("; ")} == {
        *("epochs", "speed.radius", "method.queue_szie", "method.temperature", "batch_size"),
        *("method.queue_size", "what", "data.nam"),
    }


def test_a_check_that_needs_a_wrong_value_says_nothing_about_it() -> None:
    assert problem({"epochs": 1000, "batch_size": "x"}).startswith(
        "batch_size: expected a whole number"
    )
    assert "too many" not in problem({"epochs": 1000, "batch_size": "x"})


def test_the_checks_go_on_where_a_value_is_missing() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Heads:
        width: int
        depth: int
        heads: int = 4
        layers: int = 1
        groups: int = 1

        def __post_init__(self) -> None:
            if not 1 <= self.width <= 4096:
                raise ValueError(f"width: must be in [1, 4096], got {self.width}")
            if self.depth < 1:
                raise ValueError(f"depth: must be >= 1, got {self.depth}")
            if self.layers < 1:
                raise ValueError(f"layers: must be >= 1, got {self.layers}")
            if self.heads < self.layers:
                raise ValueError(f"heads: must be >= layers {self.layers}, got {self.heads}")
            if self.width % self.heads:
                raise ValueError(f"heads: {self.heads} does not divide {self.width}")
            if self.groups < 1:
                raise ValueError(f"groups: must be >= 1, got {self.groups}")

    def said(**mapping: int) -> str:
        with pytest.raises(ConfigError) as caught:
            parse_config(Heads, mapping)
        return str(caught.value)

    missing = "width: missing, expected a whole number; give it as width=VALUE"
    assert said(depth=1, layers=0) == f"{missing}; layers: must be >= 1, got 0"
    assert said(depth=0, heads=3) == f"{missing}; depth: must be >= 1, got 0"
    assert said(depth=0, width=5000, groups=0, heads=0) == (
        "width: must be in [1, 4096], got 5000; depth: must be >= 1, got 0; "
        "heads: must be >= layers 1, got 0"
    )


def test_an_override_of_a_name_drops_the_keys_of_the_file_and_notes_it() -> None:
    mapping = {
        **TEXTURES,
        "method": {"name": "moco_v2", "queue_size": 8, "temperature": 0.7, "filter": {"radius": 2}},
    }
    loaded = parse_config(Config, mapping, ["method.name=simsiam"])
    assert loaded.value.method == SimSiam(temperature=0.7)
    assert loaded.notes == [
        "method.name is now 'simsiam'; "
        "dropped from the file: method.queue_size, method.filter.radius"
    ]


def test_an_override_of_the_default_name_drops_the_keys_of_the_file_too() -> None:
    loaded = parse_config(
        Config, {**TEXTURES, "method": {"queue_size": 8}}, ["method.name=simsiam"]
    )
    assert loaded.value.method == SimSiam()
    assert loaded.notes == [
        "method.name is now 'simsiam'; dropped from the file: method.queue_size"
    ]


def test_overrides_stay_strict_when_a_name_changes() -> None:
    found = problem(
        {"method": {"name": "moco_v2", "queue_size": 8}},
        "method.name=simsiam",
        "method.symmetric=true",
    )
    assert found.startswith("method.symmetric: no such key of 'simsiam', only of moco_v2")
    assert "queue_size" not in found


def test_the_file_stays_strict_when_the_name_stays() -> None:
    mapping = {"method": {"name": "moco_v2", "hidden_dim": 3}}
    assert problem(mapping, "method.name=moco_v2").startswith("method.hidden_dim: no such key")
    assert parse_config(Config, TEXTURES, ["method.name=simsiam"]).notes == []


def test_the_last_of_several_overrides_wins() -> None:
    assert parse({}, "epochs=1", "epochs=2").epochs == 2
    assert parse({}, "monitor.strength=3", "monitor=null").monitor is None
    assert parse({}, "monitor=null", "monitor.strength=3").monitor == Sharp(3.0)
    assert parse({}, "method.queue_size=1", "method={queue_size: 2}").method == Moco(queue_size=2)


def test_a_heading_without_keys_means_the_defaults() -> None:
    assert parse({"speed": None}).speed == Blur()


def test_a_section_keeps_the_default_values_of_its_place() -> None:
    @dataclass(frozen=True)
    class Outer:
        inner: Moco = field(default_factory=lambda: Moco(queue_size=4))

    assert parse_config(Outer, {"inner": {"temperature": 1}}).value.inner == Moco(
        queue_size=4, temperature=1.0
    )


def test_a_check_that_fails_for_a_programming_error_is_not_hidden() -> None:
    @dataclass(frozen=True)
    class Broken:
        size: int = 1

        def __post_init__(self) -> None:
            self.sice  # type: ignore[attr-defined] # noqa: B018 - the error under test

    with pytest.raises(AttributeError):
        parse_config(Broken, {})


def test_a_type_that_configs_do_not_have_is_a_programming_error() -> None:
    @dataclass(frozen=True)
    class Broken:
        sizes: dict[str, int] = field(default_factory=dict)

    with pytest.raises(TypeError, match="no type for a config field"):
        parse_config(Broken, {"sizes": {"a": 1}})


def test_a_config_is_loaded_from_a_file_with_overrides(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("data: {name: folder, root: 007}\nrate: 1e-4  # small\n", encoding="utf-8")
    loaded = load_config(Config, str(path), ["epochs=3"], packaged="pretrain")
    assert loaded.value == Config(data=Folder(root="007"), rate=1e-4, epochs=3)


finite = st.floats(allow_nan=False, allow_infinity=False)
text = st.text(st.characters(exclude_categories=(), exclude_characters="\0"), max_size=12)
configs = st.builds(
    Config,
    data=st.builds(Folder, root=text, subset=st.none() | text) | st.builds(Textures),
    method=st.builds(
        Moco,
        queue_size=st.integers(1, 10**20),
        temperature=st.floats(1e-300, 1e300),
        symmetric=st.booleans(),
        filter=st.builds(Blur, radius=finite),
    )
    | st.builds(SimSiam, temperature=finite),
    speed=st.builds(Blur, radius=finite),
    monitor=st.none() | st.builds(Sharp, strength=finite),
    key_dropout=st.sampled_from(["on", "off"]),
    context=st.integers() | st.just("local"),
    pairs=st.just("all") | st.lists(st.lists(finite).map(tuple)).map(tuple),
    mean=st.tuples(finite, finite, finite),
    ks=st.lists(st.integers()).map(tuple),
    names=st.lists(
        text | st.sampled_from(["null", "on", "1e-4", "3", "~", "", "=", "<<", "2026-01-01"])
    ),
    chain=st.lists(st.builds(Blur, radius=finite), max_size=3).map(tuple),
    limit=st.none() | st.integers(),
    note=text | st.sampled_from(["null", "yes", "1e-4", "0x10", "1:30", "# a", "- a", "a: b"]),
)


@given(configs)
def test_a_config_survives_the_way_to_yaml_and_back(config: Config) -> None:
    assert parse_config(Config, yaml.safe_load(to_yaml(config))).value == config


@given(config=configs)
def test_a_config_survives_the_way_through_a_file(
    config: Config, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.yaml"
    path.write_text(to_yaml(config), encoding="utf-8")
    assert load_config(Config, str(path), [], packaged="pretrain").value == config


def test_yaml_keeps_the_order_of_the_fields_and_short_lists_on_one_line() -> None:
    lines = to_yaml(Config(data=Textures())).splitlines()
    assert lines[:2] == ["data: {name: textures, seed: 0}", "method:"]
    assert "mean: [0.0, 0.0, 0.0]" in lines


def test_text_with_a_nul_in_the_place_of_a_section_is_shown() -> None:
    with pytest.raises(ConfigError, match=r"method: is a section, got '\\x00' \(str\)"):
        parse_config(Config, {}, ["method=\0"])

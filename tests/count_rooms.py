"""Counts of the house: rooms, their levels, arrows between them. Run: python -m tests.count_rooms.

An arrow is a pair of rooms of which the first imports the second; it is upward if it goes against
`ROOMS`. A room is one level above the highest room that it imports. A module at the root counts as
a room here.
"""

from functools import cache

from tests.test_architecture import GRAPH, MODULES, ROOMS, upward_arrows

INSIDE = {  # the top of a package names what is called from Python, and imports it late
    module: {name for name in names if name in MODULES and name not in ROOMS}
    for module, names in GRAPH.items()
    if module not in ROOMS
}


def of_package(package: str) -> dict[str, set[str]]:
    """The imports of a package's own modules, by module."""
    prefix = f"{package}."
    return {
        module: {name for name in names if name.startswith(prefix)}
        for module, names in INSIDE.items()
        if module.startswith(prefix)
    }


def room_of(module: str) -> str:
    """The folder right below the package, or the module that stands in its place."""
    return module.split(".")[1]


def num_levels(pairs: set[tuple[str, str]]) -> int:
    """Rooms on the longest way along the arrows, which form no circle."""

    @cache
    def level(room: str) -> int:
        return 1 + max((level(below) for above, below in pairs if above == room), default=0)

    return max((level(room) for room, _ in pairs), default=1)


def arrows(graph: dict[str, set[str]]) -> set[tuple[str, str]]:
    """Pairs of rooms of which the first imports the second."""
    return {
        (room_of(module), room_of(name))
        for module, names in graph.items()
        for name in names
        if room_of(module) != room_of(name)
    }


def counts(package: str) -> dict[str, int]:
    """What is counted, by name."""
    graph = of_package(package)
    folders = {room for room in ROOMS[package] for m in graph if m.startswith(f"{package}.{room}.")}
    return {
        "modules": len(graph),
        "rooms": len(folders),
        "modules at the root": len(ROOMS[package]) - len(folders),
        "levels of rooms": num_levels(arrows(graph)),
        "arrows between rooms": len(arrows(graph)),
        "upward arrows": len(upward_arrows(graph)),
    }


def main() -> None:
    """Print a column for each package."""
    columns = {package: counts(package) for package in ROOMS}
    print(f"{'':22}" + "".join(f"{package:>13}" for package in columns))
    for name in next(iter(columns.values())):
        print(f"{name:22}" + "".join(f"{column[name]:13}" for column in columns.values()))


if __name__ == "__main__":
    main()

"""A module of ours with one of its rules changed, for the length of a test: does the test notice?

The changed source is compiled beside the module, and the code of its functions takes the place of the originals', which
keep their names, defaults and globals: whoever imported them before runs the changed rule as well.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType, ModuleType


@contextmanager
def altered(module: ModuleType, *changes: tuple[str, str]) -> Iterator[None]:
    """Each change is (what the source says once, what it says instead)."""
    source = inspect.getsource(module)
    for old, new in changes:
        if source.count(old) != 1:
            raise ValueError(f"expected {old!r} once in {module.__name__}, found it {source.count(old)} times")
        source = source.replace(old, new)
    changed = ModuleType(module.__name__)
    exec(compile(source, f"{module.__name__} (altered)", "exec"), changed.__dict__)
    originals = {name: function.__code__ for name, function in _functions(module).items()}
    replacements = {name: function.__code__ for name, function in _functions(changed).items()}
    try:
        for name, function in _functions(module).items():
            function.__code__ = replacements[name]
        yield
    finally:
        for name, function in _functions(module).items():
            function.__code__ = originals[name]


def _functions(module: ModuleType) -> dict[str, FunctionType]:
    """By qualified name: the module's own functions and methods, without what dataclasses generate."""
    found = {}
    for name, value in vars(module).items():
        members = {name: value}
        if isinstance(value, type) and value.__module__ == module.__name__:
            members = {f"{name}.{member}": function for member, function in vars(value).items()}
        for qualified_name, function in members.items():
            is_own = isinstance(function, FunctionType) and function.__module__ == module.__name__
            if is_own and not function.__code__.co_filename.startswith("<"):
                found[qualified_name] = function
    return found

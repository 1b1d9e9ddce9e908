"""Wrap the methods of an SDK when it gets imported, and unwrap them again.

Comes in: the import of a module that an SDK file names in its TARGETS. Goes out: the method, wrapped; and a record of
what was patched and what was not, and why, for `farebox doctor`. A target is patched by its shape, not by the version
of its SDK. Until an SDK is imported nothing is imported here but what the interpreter has loaded anyway.
"""

import sys

from farebox import SDKS, Watch

TYPE_CHECKING = False  # importing `typing` would cost every interpreter that has the hook
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

    from farebox.sdks import Sdk, Target

PATCHED = "patched"
WAITING = "waiting"
MISSING = "missing"
OFF = "off"


class Patch:
    """One target and what became of it; `reason` says why it is not patched."""

    __slots__ = ("original", "reason", "sdk", "state", "switch", "target", "was_inherited", "wrapper")

    def __init__(self, sdk: str, target: "Target") -> None:
        self.sdk = sdk
        self.target = target
        self.state = WAITING
        self.reason = f"{target.module} is not imported yet"
        self.original: Any = None
        self.wrapper: Any = None
        self.switch: Any = None
        self.was_inherited = False


_patches: dict[str, list[Patch]] = {}
_watched_roots: dict[str, str] = {}
_watched_modules: dict[str, list[Patch]] = {}
_off: dict[str, str] = {}


def install() -> "_Finder":
    """Patch the SDKs that are imported already, and watch for the imports of the others. Twice is as once."""
    for known in sys.meta_path:
        if isinstance(known, _Finder):
            return known
    _watched_roots.update({root: sdk for sdk, root in SDKS.items()})
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    for root in list(_watched_roots):
        if root in sys.modules:
            _guarded(lambda root=root: _load(root), "patching.load")  # type: ignore[misc]
    return finder


def remove() -> None:
    """Put every original attribute back and stop watching."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]
    for patches in _patches.values():
        for patch in patches:
            _guarded(lambda patch=patch: _unwrap(patch), "patching.unwrap")  # type: ignore[misc]
    for known in (_patches, _watched_roots, _watched_modules, _off):
        known.clear()
    metering = sys.modules.get("farebox.metering")
    if metering is not None:
        metering.forget_settings()


def patches() -> dict[str, list[Patch]]:
    """What became of each target, by SDK; an SDK that was not imported yet is absent."""
    return {sdk: list(found) for sdk, found in _patches.items()}


def switched_off() -> dict[str, str]:
    """The SDKs that a setting leaves alone, with the name of that setting."""
    return dict(_off)


class _Finder(Watch):
    """Sees each import first; all but the watched ones pass after one look into a dict."""

    def find_spec(
        self, name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        if name in _watched_roots:
            _guarded(lambda: _load(name), "patching.load")
        if name not in _watched_modules:
            return None
        spec = _spec_of_others(name, path, target)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = _Loader(spec.loader)  # type: ignore[assignment]  # it passes everything on to the loader
        return spec


class _Loader:
    """Runs the module as its own loader would, then has its targets patched."""

    def __init__(self, loader: "Any") -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> "Any":
        return getattr(self._loader, name)

    def create_module(self, spec: "ModuleSpec") -> "ModuleType | None":
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: "ModuleType") -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        _guarded(lambda: _patch_module(module.__name__), "patching.patch")


def _spec_of_others(name: str, path: "Sequence[str] | None", target: "ModuleType | None") -> "ModuleSpec | None":
    for finder in list(sys.meta_path):
        if isinstance(finder, _Finder):
            continue
        find_spec = getattr(finder, "find_spec", None)
        spec: ModuleSpec | None = find_spec(name, path, target) if find_spec else None
        if spec is not None:
            return spec
    return None


def _load(root: str) -> None:
    """Read the SDK file, now that its SDK is being imported, and patch or watch for its targets."""
    from importlib import import_module

    from farebox import metering

    name = _watched_roots.pop(root, None)
    if name is None:
        return
    setting = metering.switched_off_by(name)
    if setting:
        _off[name] = setting
        return
    sdk: Sdk = import_module(f"farebox.sdks.{name}")
    metering.know(name, sdk)
    _patches[name] = [Patch(name, target) for target in sdk.TARGETS]
    for patch in _patches[name]:
        _watched_modules.setdefault(patch.target.module, []).append(patch)
    for module in {target.module for target in sdk.TARGETS}:
        if module in sys.modules:
            _patch_module(module)


def _patch_module(name: str) -> None:
    for patch in _watched_modules.pop(name, []):
        _guarded(lambda patch=patch: _wrap(patch, sys.modules[name]), "patching.wrap")  # type: ignore[misc]


def _wrap(patch: Patch, module: "ModuleType") -> None:
    from farebox import metering

    owner, attribute = _find_owner(module, patch.target.attribute)
    original = getattr(owner, attribute, None) if owner is not None else None
    if not callable(original):
        patch.state = MISSING
        patch.reason = f"{patch.target.module} has no callable {patch.target.attribute}"
        return
    patch.original = vars(owner).get(attribute, original)
    patch.was_inherited = attribute not in vars(owner)
    patch.wrapper, patch.switch = metering.wrapped(patch.sdk, patch.original, patch.target)
    setattr(owner, attribute, patch.wrapper)
    patch.state, patch.reason = PATCHED, ""


def _unwrap(patch: Patch) -> None:
    """Put the very object back that was there.

    Where somebody else has wrapped our wrapper since, theirs stays, and ours lets everything through.
    """
    if patch.state != PATCHED:
        return
    patch.switch.is_on = False
    owner, attribute = _find_owner(sys.modules.get(patch.target.module), patch.target.attribute)
    if owner is None or vars(owner).get(attribute) is not patch.wrapper:
        return
    if patch.was_inherited:
        delattr(owner, attribute)
    else:
        setattr(owner, attribute, patch.original)


def _find_owner(module: "ModuleType | None", path: str) -> "tuple[Any, str]":
    """The object that holds the last name of a dotted path, and that name; None where the path breaks off."""
    owner: Any = module
    *outer, last = path.split(".")
    for name in outer:
        owner = getattr(owner, name, None)
    return owner, last


def _guarded(action: "Callable[[], None]", place: str) -> None:
    try:
        action()
    except Exception:  # noqa: BLE001 - the import of the app's SDK must succeed whatever happens here
        from farebox import safety

        safety.report(place)

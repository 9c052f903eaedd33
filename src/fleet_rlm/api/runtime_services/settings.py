"""Model settings: what is set and from where, changing it, trying it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from fleet_rlm.api.runtime_services.ports import ModelsFor, Workspace
from fleet_rlm.errors import Conflict, FleetError
from fleet_rlm.runtime.config import SETTINGS, Settings, load_settings, save_settings

if TYPE_CHECKING:
    from fleet_rlm.runtime.models.spec import ModelOption, Step

NAMES = ("model", "sub_model", "api_base", "api_key")
SHOWN_OF_LONG_KEYS = 12


class ModelSettingsService:
    """The settings page's half of the runtime."""

    def __init__(self, workspace: Workspace, models_for: ModelsFor) -> None:
        self._workspace = workspace
        self._models_for = models_for
        self._saving = threading.Lock()

    async def read(self) -> dict[str, Any]:
        """The present values, without the key itself."""
        return await asyncio.to_thread(self._read)

    def _read(self) -> dict[str, Any]:
        settings = self._workspace.settings
        return {
            "model": settings.model,
            "sub_model": settings.sub_model,
            "api_base": settings.api_base,
            "key": self._key(settings),
            "sources": {name: settings.sources.get(name, "default") for name in NAMES},
            "suggestions": [_suggestion(option) for option in self._workspace.models.available()],
        }

    def _key(self, settings: Settings) -> dict[str, Any]:
        """The key that the configured model would be called with."""
        key, source = settings.api_key, settings.sources.get("api_key")
        try:
            spec = self._workspace.models.resolve(None)
        except FleetError:
            spec = None
        if spec is not None and spec.api_key is not None and spec.api_key.reveal() != "none":
            key = spec.api_key
            source = settings.sources.get(f"keys.{spec.key_variable}", source)
        if key is None:
            return {"set": False, "ends": None, "source": None}
        plain = key.reveal()
        return {"set": True, "ends": plain[-4:] if len(plain) >= SHOWN_OF_LONG_KEYS else None, "source": source}

    async def change(self, changes: Mapping[str, str | None]) -> dict[str, Any]:
        """Save and use at once. Errors: InvalidInput; Conflict where the environment would win over the file."""
        await asyncio.to_thread(self._change, changes)
        return await self.read()

    def _change(self, changes: Mapping[str, str | None]) -> None:
        variables = {setting.name: setting.variable for setting in SETTINGS}
        with self._saving:
            settings = self._workspace.settings
            for name in changes:
                if settings.sources.get(name) == "environment":
                    raise Conflict(
                        f"{variables[name]} in the environment decides {name}",
                        hint="unset it and start again to change it here",
                    )
            cleaned = {name: value.strip() or None if value else None for name, value in changes.items()}
            self._workspace.configure(_changed(settings, save_settings(settings, cleaned), cleaned))

    async def test(self, changes: Mapping[str, str | None]) -> list[Step]:
        """Try the settings as they would be with these changes; nothing is saved."""
        return await asyncio.to_thread(self._test, changes)

    def _test(self, changes: Mapping[str, str | None]) -> list[Step]:
        settings = self._workspace.settings
        given = {name: value for name, value in changes.items() if value}
        tried = load_settings(home=settings.home, overrides=given)
        models = self._models_for(_changed(settings, tried, given))
        return models.test(models.resolve(None))


def _changed(settings: Settings, other: Settings, names: Iterable[str]) -> Settings:
    """`settings` with these values of `other`: what else was given as an argument at the start stays."""
    values = {name: getattr(other, name) for name in names}
    sources = {**settings.sources, **{name: other.sources.get(name, "default") for name in names}}
    return replace(settings, **values, sources=sources)


def _suggestion(option: ModelOption) -> dict[str, Any]:
    kind: Literal["env", "local", "demo"] = "env"
    if option.model.startswith("demo/"):
        kind = "demo"
    elif option.reason.startswith("runs at"):
        kind = "local"
    return {"model": option.model, "label": option.label, "kind": kind, "api_base": option.api_base, "ready": True}

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
from fleet_rlm.runtime.execution.events import CallRole

if TYPE_CHECKING:
    from fleet_rlm.runtime.models.spec import ModelOption, Step

NAMES = ("model", "sub_model", "judge_model", "models_allowed", "verify", "api_base", "api_key")
ROLES: tuple[CallRole, ...] = ("root", "sub", "judge")
PRICE_FIELDS = ("input_usd", "output_usd", "cached_usd", "source", "date")
SHOWN_OF_LONG_KEYS = 12

Changes = Mapping[str, "str | list[str] | None"]


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
            "judge_model": settings.judge_model,
            "models_allowed": list(settings.models_allowed),
            "verify": settings.verify,
            "roles": [fact for role in ROLES if (fact := self._facts(role)) is not None],
            "api_base": settings.api_base,
            "key": self._key(settings),
            "sources": {name: settings.sources.get(name, "default") for name in NAMES},
            "suggestions": [_suggestion(option) for option in self._workspace.models.available()],
        }

    def _facts(self, role: CallRole) -> dict[str, Any] | None:
        """What is known of the model that a role uses: its price with source and date, its window, its weakness."""
        try:
            spec = self._workspace.models.for_role(role)
        except FleetError:
            return None
        price = spec.price
        return {
            "role": role,
            "model": spec.model,
            "context_window": spec.context_window,
            "price": None if price is None else {name: getattr(price, name) for name in PRICE_FIELDS},
            "weak": spec.weak,
            "probed": spec.probed,
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

    async def change(self, changes: Changes) -> dict[str, Any]:
        """Save and use at once. Errors: InvalidInput; Conflict where the environment would win over the file."""
        await asyncio.to_thread(self._change, changes)
        return await self.read()

    def _change(self, changes: Changes) -> None:
        variables = {setting.name: setting.variable for setting in SETTINGS}
        with self._saving:
            settings = self._workspace.settings
            for name in changes:
                if settings.sources.get(name) == "environment":
                    raise Conflict(
                        f"{variables[name]} in the environment decides {name}",
                        hint="unset it and start again to change it here",
                    )
            cleaned = {name: _cleaned(value) for name, value in changes.items()}
            self._workspace.configure(_changed(settings, save_settings(settings, cleaned), cleaned))
        # A local server may have to load the model first: what it can do is found out meanwhile.
        threading.Thread(target=self._workspace.models.probe_new, name="fleet-probe", daemon=True).start()

    async def test(self, changes: Changes) -> list[Step]:
        """Try the settings as they would be with these changes; nothing is saved."""
        return await asyncio.to_thread(self._test, changes)

    def _test(self, changes: Changes) -> list[Step]:
        settings = self._workspace.settings
        given = {name: value for name, value in changes.items() if value}
        tried = load_settings(home=settings.home, overrides=given)
        models = self._models_for(_changed(settings, tried, given))
        return models.test(models.resolve(None))


def _cleaned(value: str | list[str] | None) -> str | list[str] | None:
    return (value.strip() if isinstance(value, str) else value) or None


def _changed(settings: Settings, other: Settings, names: Iterable[str]) -> Settings:
    """`settings` with these values of `other`: what else was given as an argument at the start stays."""
    values = {name: getattr(other, name) for name in names}
    sources = {**settings.sources, **{name: other.sources.get(name, "default") for name in names}}
    return replace(settings, **values, prices=other.prices, sources=sources)


def _suggestion(option: ModelOption) -> dict[str, Any]:
    kind: Literal["env", "local", "demo"] = "env"
    if option.model.startswith("demo/"):
        kind = "demo"
    elif option.reason.startswith("runs at"):
        kind = "local"
    return {"model": option.model, "label": option.label, "kind": kind, "api_base": option.api_base, "ready": True}

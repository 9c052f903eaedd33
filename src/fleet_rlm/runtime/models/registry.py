"""From a model string to a language model that DSPy can call.

An OpenAI-compatible server of the person's own goes through a provider declared to DSPy here, because DSPy's
catalogue cannot know what such a server does and would send it neither schemas nor tools.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import dspy
from dspy import lm15
from dspy.clients.model_metadata import model_info, rate, source_info

from fleet_rlm.errors import FleetError, InvalidInput, NotConfigured
from fleet_rlm.runtime.config import Secret, Settings, Source
from fleet_rlm.runtime.execution.events import CallRole
from fleet_rlm.runtime.models import check
from fleet_rlm.runtime.models.demo import AsyncDemoEngine, DemoEngine
from fleet_rlm.runtime.models.detect import found_keys, found_servers
from fleet_rlm.runtime.models.prices import CATALOGUE_DATES, FREE, Price
from fleet_rlm.runtime.models.probe import EndpointBook, EndpointFacts, is_near
from fleet_rlm.runtime.models.providers import DEMO_LABEL, DEMO_MODEL, PROVIDERS, Provider, nearest
from fleet_rlm.runtime.models.spec import ModelOption, ModelSpec, Step
from fleet_rlm.runtime.models.tries import sent_by_dspy

TIMEOUT_S: Final = 300.0
"""Longest wait for the next bytes of an answer."""

RETRIES: Final = 2
"""Further tries of a request that failed for the moment; DSPy waits 1 s, then 2 s, or as long as the server says."""

_NO_KEY: Final = "none"
"""Sent to servers that need no key, so that no key of the environment is sent in its place."""
_COMPATIBLE: Final = "openai-compatible"
_OPENAI_HOST: Final = "api.openai.com"
_ADDRESS_VARIABLES: Final = ("OPENAI_BASE_URL", "OPENAI_API_BASE")


class ModelRegistry:
    """Resolves model strings with the settings' keys and addresses. Thread-safe; holds no connection."""

    def __init__(self, settings: Settings, *, environ: Mapping[str, str] | None = None) -> None:
        self._settings = settings
        self._environ = os.environ if environ is None else environ
        self._book = EndpointBook(settings.home)
        _declare_compatible()

    def resolve(self, model: str | None = None) -> ModelSpec:
        """What a model string (default: the settings' model) means.

        Errors: NotConfigured without a model or without its key, InvalidInput for an unknown prefix.
        """
        name = model or self._settings.model
        source: Source = "argument" if model else self._settings.sources.get("model", "argument")
        if name is None:
            raise NotConfigured("no model is configured", hint=self._offer())
        prefix, _, rest = name.partition("/")
        provider = PROVIDERS.get(prefix)
        if name == DEMO_MODEL:
            return _demo_spec(source)
        if provider is None or not rest:
            raise InvalidInput(f"unknown model {name[:200]!r}", hint=_unknown_hint(prefix, rest))
        address = self._address(provider)
        if address is not None and provider.prefix != "azure":
            return self._compatible_spec(name, rest, address, source)
        return self._hosted_spec(name, provider, address, source)

    def lm(self, spec: ModelSpec, *, factory: Callable[..., dspy.LM] = dspy.LM, **options: Any) -> dspy.LM:
        """A language model for `spec`; `factory` may be a subclass of dspy.LM, `options` are its arguments.

        DSPy's cache is off: its key leaves address and credential out, so two servers would share answers.
        """
        if spec.demo:
            return factory(
                spec.wire_model, engine=DemoEngine(), async_engine=AsyncDemoEngine(), **{"cache": False, **options}
            )
        settings: dict[str, Any] = {"cache": False, "timeout": TIMEOUT_S, "num_retries": RETRIES, **options}
        if _marks_prefix(spec):
            settings.setdefault("prompt_cache", lm15.CacheConfig(prefix="stable"))
        if spec.api_base is not None:
            settings["api_base"] = spec.api_base
            # Small local models lose the thread at the temperatures that their servers take by default.
            settings.setdefault("temperature", 0.0)
        if spec.api_key is not None:
            settings["api_key"] = spec.api_key.reveal()
        elif spec.api_base is not None:
            settings["api_key"] = _NO_KEY
        return factory(spec.wire_model, **settings)

    def for_role(self, role: CallRole) -> ModelSpec:
        """The settings' model of a role; a role without one of its own takes the root's. Errors: as `resolve`.

        The reflection role has no setting until something reflects (evaluation and optimisation do, not a turn).
        """
        chosen = {"sub": self._settings.sub_model, "judge": self._settings.judge_model}.get(role)
        return self.resolve(chosen)

    @property
    def judges(self) -> bool:
        """Whether each answer is to be checked by the judge."""
        return self._settings.verify == "judge"

    @property
    def judge_model(self) -> str | None:
        """The judge's own model, where one is set."""
        return self._settings.judge_model

    @property
    def allowed(self) -> tuple[str, ...]:
        """The models that the code of a run may call by name."""
        return self._settings.models_allowed

    def own_price(self, model: str) -> Price | None:
        """The price that the settings give for a model string."""
        return self._settings.prices.get(model)

    def price_of(self, lm: dspy.BaseLM) -> Price | None:
        """What an LM that a caller brings costs: by the settings, and where DSPy sends its requests by DSPy's list."""
        own = self.own_price(str(lm.model))
        if own is not None or not sent_by_dspy(lm):
            return own
        prefix, slash, rest = str(lm.model).partition("/")
        provider, model = (prefix, rest) if slash else ("openai", prefix)  # as DSPy reads it
        declared = next((each for each in lm15.registered_providers() if provider in each.definition.spellings), None)
        namespaces = None if declared is None else declared.metadata_namespaces
        return _catalogue_price(model_info(provider, model, namespaces=namespaces))

    def test(self, spec: ModelSpec) -> list[Step]:
        """Try the model step by step: address, answer, and for servers of one's own schema and tools.

        What the probe finds is kept and holds for the next `resolve`. Never raises for a failing model.
        """
        steps, facts = check.run(spec, self.lm(spec, num_retries=0, timeout=60.0) if not spec.demo else self.lm(spec))
        if facts is not None and spec.api_base is not None:
            self._book.note(spec.api_base, spec.model.partition("/")[2], facts)
        return steps

    def probe_new(self) -> None:
        """Try the configured model once, if it runs on a server near by that nobody has tried yet.

        For when a person connects a model: costs no money and at most some minutes of a slow server. Never raises.
        """
        try:
            spec = self.resolve()
        except FleetError:
            return
        if spec.api_base is not None and spec.probed is None and is_near(spec.api_base):
            self.test(spec)

    def available(self) -> list[ModelOption]:
        """What could be chosen right now, real models first. Takes at most 0.3 s of waiting; asks this machine only."""
        options = [
            ModelOption(key.example, f"{key.provider}: {key.example}", f"{key.variable} is set")
            for key in found_keys(self._settings)
            if key.example is not None
        ]
        options += [
            ModelOption(model, f"{server.provider}: {model.partition('/')[2]}", f"runs at {server.address}")
            for server in found_servers()
            for model in server.models
        ]
        return [*options, ModelOption(DEMO_MODEL, DEMO_LABEL, "built in")]

    def _offer(self) -> str:
        keys = [key for key in found_keys(self._settings) if key.example is not None]
        found = "; ".join(f"{key.variable} is set: use --model {key.example}" for key in keys[:2])
        return found or f"use --model or FLEET_MODEL, e.g. openai/gpt-5-mini; to look around: --model {DEMO_MODEL}"

    def _owns_address(self, provider: Provider) -> bool:
        """The configured address belongs to the configured model's provider, or to openai/ models."""
        prefix = (self._settings.model or "").partition("/")[0]
        owner = PROVIDERS.get(prefix)
        takes_address = owner is not None and (owner.address is not None or prefix in ("openai", "azure"))
        return provider.prefix == (prefix if takes_address else "openai")

    def _address(self, provider: Provider) -> str | None:
        if self._settings.api_base is not None and self._owns_address(provider):
            return self._settings.api_base
        if provider.prefix == "openai":
            address = next((self._environ[name] for name in _ADDRESS_VARIABLES if self._environ.get(name)), "")
            return address.rstrip("/") if address and urlsplit(address).hostname != _OPENAI_HOST else None
        return provider.address

    def _key(self, provider: Provider, address: str | None) -> tuple[Secret | None, str | None]:
        """(key, the variable it stands in). An address of one's own gets only the key that was given for it."""
        own = self._settings.api_key if self._owns_address(provider) or not provider.keys else None
        if address is not None and address == self._settings.api_base:
            return own, "FLEET_API_KEY"
        for variable in provider.keys:
            if variable in self._settings.keys:
                return self._settings.keys[variable], variable
        if self._settings.api_key is not None and (self._settings.model or "").startswith(f"{provider.prefix}/"):
            return self._settings.api_key, "FLEET_API_KEY"
        return None, provider.keys[0] if provider.keys else None

    def _compatible_spec(self, name: str, model: str, address: str, source: Source) -> ModelSpec:
        key, variable = self._key(PROVIDERS[name.partition("/")[0]], address)
        facts = self._book.look_up(address, model) or EndpointFacts()
        return ModelSpec(
            model=name,
            wire_model=f"{_declared_name(facts)}/{model}",
            label=name,
            source=source,
            api_base=address,
            api_key=key,
            key_variable=variable,
            context_window=facts.context_window,
            price=self._settings.prices.get(name),
            function_calling=facts.function_calling,
            response_schema=facts.response_schema,
            writes_code=facts.writes_code,
            probed=facts.asked,
        )

    def _hosted_spec(self, name: str, provider: Provider, address: str | None, source: Source) -> ModelSpec:
        key, variable = self._key(provider, None)
        if provider.keys and key is None:
            hint = f"set {' or '.join(provider.keys)} in the environment, or save it in the settings"
            raise NotConfigured(f"{name} needs a key of {provider.name}", hint=hint)
        info = model_info(provider.prefix, name.partition("/")[2])
        window = info.get("max_input_tokens")
        return ModelSpec(
            model=name,
            wire_model=name,
            label=name,
            source=source,
            api_base=address,
            api_key=key,
            key_variable=variable,
            context_window=window if isinstance(window, int) else None,
            price=self._settings.prices.get(name) or _catalogue_price(info),
            function_calling=info.get("supports_function_calling") is True,
            response_schema=info.get("supports_response_schema") is True,
        )


def _demo_spec(source: Source) -> ModelSpec:
    return ModelSpec(
        model=DEMO_MODEL,
        wire_model=DEMO_MODEL,
        label=DEMO_LABEL,
        source=source,
        demo=True,
        price=FREE,
        function_calling=True,
    )


def _marks_prefix(spec: ModelSpec) -> bool:
    """Whether the provider caches the beginning of a prompt only where it is marked, as Anthropic does.

    All steps of a run and its siblings have the same system message. Writing it into the cache costs a quarter more
    once; a price of the person's own does not say how much, so nothing is marked there.
    """
    own = spec.price is not None and spec.price.own
    return spec.model.startswith("anthropic/") and spec.api_base is None and not own


def _catalogue_price(info: Mapping[str, Any]) -> Price | None:
    """What DSPy's price list says, or None where it lacks a rate."""
    prompt, answer = rate(info, "input_cost_per_token"), rate(info, "output_cost_per_token")
    if prompt is None or answer is None:
        return None
    cached, written = rate(info, "cache_read_input_token_cost"), rate(info, "cache_creation_input_token_cost")
    listed = source_info()
    version = str(listed.get("snapshot_version"))
    fetched = listed.get("source") == "remote"
    return Price(
        input_usd=prompt * 1e6,
        output_usd=answer * 1e6,
        cached_usd=None if cached is None else cached * 1e6,
        written_usd=None if written is None else written * 1e6,
        source="price list of LiteLLM, fetched" if fetched else f"price list of LiteLLM {version}",
        date=None if fetched else CATALOGUE_DATES.get(version),
    )


def _unknown_hint(prefix: str, rest: str) -> str:
    if prefix == "demo":
        return f"the demo program is {DEMO_MODEL}"
    if not rest:
        return "write provider/model, e.g. openai/gpt-5-mini"
    close = nearest(prefix)
    advice = "for an OpenAI-compatible server write openai/<model> and set FLEET_API_BASE"
    return f"did you mean {close}/{rest[:100]}? {advice}" if close else advice


def _declared_name(facts: EndpointFacts) -> str:
    parts = [_COMPATIBLE]
    if facts.response_schema:
        parts.append("schema")
    if facts.function_calling:
        parts.append("tools")
    return "-".join(parts)


def _declare_compatible() -> None:
    """Tell DSPy of one provider per set of abilities; address and key come with each LM. Repeating it is harmless."""
    for schema in (False, True):
        for tools in (False, True):
            name = _declared_name(EndpointFacts(response_schema=schema, function_calling=tools))
            lm15.register_provider(
                lm15.ProviderDefinition.chat(
                    lm15.AccessPolicy(provider=name, base_url="http://127.0.0.1:9/v1"),
                    compat=lm15.OpenAIChatCompat.preset("ollama"),
                ),
                supports=lm15.ModelSupport(function_calling=tools, response_schema=schema),
            )

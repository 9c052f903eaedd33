"""The models of a turn with what is known of them.

What a model can do and how much it reads shape every request to it, and so the keys under which a journal finds the
answers. A server of one's own is tried when it is first used; it, a key or a Python object may be gone later. So what
was known stands in `turn.accepted`, and holds for every turn that goes on from that one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import dspy
from dspy.utils.exceptions import LMError
from msgspec.structs import replace

from fleet_rlm.errors import InvalidInput, NotConfigured
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.requests import TurnRequest
from fleet_rlm.runtime.models.credentials import secrets_of
from fleet_rlm.runtime.models.prices import Price
from fleet_rlm.runtime.models.recording import silent_model
from fleet_rlm.runtime.models.registry import ModelRegistry
from fleet_rlm.runtime.models.spec import ModelSpec
from fleet_rlm.runtime.models.tries import sent_by_dspy


@dataclass(frozen=True, slots=True)
class BoundModel:
    """A model that a turn will call: DSPy's LM and, when it came from a string, what is known about it."""

    lm: dspy.BaseLM
    name: str
    spec: ModelSpec | None = None
    price: Price | None = None

    @property
    def priced(self) -> bool:
        """Whether a cost limit can hold: the price is known, or an engine of the caller's own may tell it."""
        return self.price is not None or (self.spec is None and not sent_by_dspy(self.lm))


@dataclass(frozen=True, slots=True)
class Models:
    """The roles of a turn. `judge` None: answers are not checked. `named` gives further models that its code may name.

    Errors of `named`: NotConfigured, InvalidInput.
    """

    root: BoundModel
    sub: BoundModel
    judge: BoundModel | None = None
    allowed: tuple[str, ...] = ()
    named: Callable[[str], BoundModel] | None = None

    def secrets(self) -> set[str]:
        """What they prove with who asks. What models have that code names is the settings' own."""
        bound = (self.root, self.sub, *([self.judge] if self.judge is not None else []))
        return set[str]().union(*(secrets_of(model.lm) for model in bound))

    def known(self) -> dict[str, ev.ModelKnown]:
        """What is known of them, by name; also of those that code may name, as far as they are there."""
        bound, named = [self.root, self.sub, *([self.judge] if self.judge is not None else [])], self.named
        if named is not None:
            for name in self.allowed:
                with suppress(NotConfigured, InvalidInput):
                    bound.append(named(name))
        return {model.name: _known(model) for model in bound if model.spec is None or not model.spec.demo}


def bind(request: TurnRequest, registry: ModelRegistry, default_sub: str | None) -> Models:
    """The models of a request. Errors: NotConfigured, InvalidInput (unknown model, unpriced with a cost limit).

    A replay asks none: they need not be there, nor have a price.
    """
    asks = request.origin is None or request.origin.kind != "replay"

    def bound(choice: str | dspy.BaseLM | None) -> BoundModel:
        return _bound(choice, registry, request.known, asks=asks)

    root = bound(request.model)
    sub_choice = request.sub_model or (default_sub if request.model is None else None)
    sub = bound(sub_choice) if sub_choice is not None else root
    judge = (bound(registry.judge_model) if registry.judge_model else root) if registry.judges else None
    for model in (root, sub, judge) if asks else ():
        check_price(model, request.limits or ev.Limits())
    return Models(root, sub, judge, registry.allowed, bound)


def check_price(model: BoundModel | None, limits: ev.Limits) -> None:
    """Errors: InvalidInput when a cost limit is set that cannot hold for this model."""
    if model is not None and limits.cost_usd is not None and not model.priced:
        raise InvalidInput(
            f"the price of {model.name} is unknown, so a cost limit cannot hold",
            hint=f'limit calls or tokens instead, or give its price in the settings: [prices."{model.name}"]',
        )


def _bound(
    choice: str | dspy.BaseLM | None, registry: ModelRegistry, known: Mapping[str, ev.ModelKnown], *, asks: bool
) -> BoundModel:
    if isinstance(choice, dspy.BaseLM):
        name = str(choice.model)
        return BoundModel(choice, name, price=registry.price_of(choice))
    if choice is not None and not isinstance(choice, str):  # pyright: ignore[reportUnnecessaryIsInstance] - of Python
        raise InvalidInput(f"the model is a {type(choice).__name__}", hint="pass a model string or a dspy.LM")
    told = known.get(choice or "")
    if told is not None and not asks:
        spec = ModelSpec(model=choice or "", wire_model=told.wire, label=choice or "", source="argument")
        return BoundModel(silent_model(told.wire, told.can), spec.model, _as_known(spec, told))
    spec = registry.resolve(choice)
    if told is not None:
        spec = _as_known(spec, told)
    return BoundModel(registry.lm(spec), spec.model, spec, spec.price)


def _known(model: BoundModel) -> ev.ModelKnown:
    known = ev.ModelKnown(wire=str(model.lm.model), can=_abilities(model.lm))
    if model.spec is None:
        return known
    return replace(known, window=model.spec.context_window, writes_code=model.spec.writes_code, tried=model.spec.probed)


def _abilities(lm: dspy.BaseLM) -> list[ev.Ability]:
    """What DSPy's adapters ask of a model. What it cannot tell, it cannot do."""
    told: dict[ev.Ability, Callable[[], bool]] = {
        "tools": lambda: lm.supports_function_calling,
        "schema": lambda: lm.supports_response_schema,
        "json": lambda: "response_format" in lm.supported_params,
        "reasoning": lambda: lm.supports_reasoning,
    }
    can: list[ev.Ability] = []
    for ability, asked in told.items():
        with suppress(LMError):
            if asked():
                can.append(ability)
    return can


def _as_known(spec: ModelSpec, told: ev.ModelKnown) -> ModelSpec:
    return dataclasses.replace(
        spec,
        wire_model=told.wire,
        context_window=told.window,
        writes_code=told.writes_code,
        probed=told.tried,
    )

"""From a request to its `turn.accepted`: what is not sound is refused before it is in a journal.

msgspec writes a value of any type and reads only the right one, so a wrong one that is let in here would take the whole
session with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, get_args

import msgspec

from fleet_rlm.errors import InvalidInput
from fleet_rlm.runtime.config import Settings
from fleet_rlm.runtime.content.names import distinct
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.limit_values import typed_limits
from fleet_rlm.runtime.execution.requests import MAX_QUESTION_CHARS, TurnRequest
from fleet_rlm.runtime.setup import setup_of

if TYPE_CHECKING:
    from fleet_rlm.runtime.models.binding import Models


def checked(request: TurnRequest, settings: Settings) -> TurnRequest:
    """The request with the limits that hold for it. Errors: InvalidInput."""
    if request.mode not in get_args(ev.Mode):
        raise InvalidInput(f"the mode must be one of {', '.join(get_args(ev.Mode))}, not {request.mode!r:.80}")
    limits = settings.policy.check_limits(typed_limits(request.limits or settings.limits))
    if not request.question.strip():
        raise InvalidInput("the question is empty", hint="ask something")
    for name, text in (("question", request.question), ("title", request.title or "")):
        try:
            text.encode()
        except UnicodeEncodeError:
            fault = f"the {name} holds half of a surrogate pair, not text"
            raise InvalidInput(fault, hint="give it as valid UTF-8") from None
    if len(request.question) > MAX_QUESTION_CHARS:
        raise InvalidInput(
            f"the question has {len(request.question):,} characters, more than {MAX_QUESTION_CHARS:,}",
            hint="attach long text as a context",
        )
    wrong = next((each for each in request.contexts if not isinstance(each, ev.ContextRef)), None)  # pyright: ignore[reportUnnecessaryIsInstance]
    if wrong is not None:
        raise InvalidInput(f"a turn's contexts are handles, not {wrong!r:.80}", hint="add it to the workspace first")
    if request.origin is not None:  # its contexts have the names that its code knows, in old journals also one twice
        return replace(request, limits=limits)
    return replace(request, limits=limits, contexts=distinct(request.contexts))


def accepted(request: TurnRequest, models: Models, settings: Settings, clean: Callable[[str], str]) -> ev.TurnAccepted:
    """What the journal will say of a checked request. Errors: InvalidInput for what nobody could read there."""
    assert request.limits is not None
    made = ev.TurnAccepted(
        question=clean(request.question),
        mode=request.mode,
        model=models.root.name,
        sub_model=models.sub.name,
        limits=request.limits,
        contexts=list(request.contexts),
        command=request.command,
        origin=_cleaned(request.origin, clean),
        objects=_given_as_objects(request),
        known=models.known(),
        setup=setup_of(settings, attended=request.attended),
    )
    try:
        return msgspec.convert(msgspec.to_builtins(made), ev.TurnAccepted)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"this turn could not be read back: {error}") from None


def _cleaned(origin: ev.Origin | None, clean: Callable[[str], str]) -> ev.Origin | None:
    """Without the secrets that somebody typed into an edit."""
    if origin is None or not origin.edits:
        return origin
    texts = ("code", "prompt", "answer")
    edits = [
        msgspec.structs.replace(
            edit, **{name: clean(text) for name in texts if (text := getattr(edit, name)) is not None}
        )
        for edit in origin.edits
    ]
    return msgspec.structs.replace(origin, edits=edits)


def _given_as_objects(request: TurnRequest) -> list[Literal["model", "sub_model"]]:
    """Which models of a request are Python objects, which their names do not bring back."""
    objects: list[Literal["model", "sub_model"]] = []
    if request.model is not None and not isinstance(request.model, str):
        objects.append("model")
    sub = request.sub_model if request.sub_model is not None else request.model
    if sub is not None and not isinstance(sub, str):
        objects.append("sub_model")
    return objects

"""Which DSPy adapter speaks with which model."""

from __future__ import annotations

from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import dspy
from dspy.adapters.utils import format_field_value
from dspy.primitives.repl_types import REPLHistory
from dspy.utils.exceptions import AdapterParseError

_NO_TEXT = "The LM returned an empty or null response."
"""DSPy's own words, by which such a reply is known."""


class Chat(dspy.ChatAdapter):
    """DSPy's, which writes a signature's system message once: it is the larger half of writing a prompt.

    Texts and the steps of a run are written as they are: DSPy makes a pydantic adapter for each value, to the same end.
    """

    _messages: ClassVar[WeakKeyDictionary[Any, str]] = WeakKeyDictionary()

    def format_system_message(self, signature: Any) -> str:
        message = self._messages.get(signature)
        if message is None:
            message = self._messages[signature] = super().format_system_message(signature)
        return message

    def parse(self, signature: Any, completion: str) -> dict[str, Any]:
        """As DSPy does; but where thoughts and calls come in places of their own, what stands in the text is no field,
        and DSPy would drop it."""
        if not signature.output_fields:
            raise AdapterParseError(type(self).__name__, signature, completion)
        return super().parse(signature, completion)

    def format_user_message_content(
        self, signature: Any, inputs: dict[str, Any], prefix: str = "", suffix: str = "", main_request: bool = False
    ) -> str:
        parts = [prefix]
        for name, field in signature.input_fields.items():
            if name in inputs:
                parts.append(f"[[ ## {name} ## ]]\n{_written(field, inputs[name])}")
        reminder = self.user_message_output_requirements(signature) if main_request else None
        if reminder is not None:
            parts.append(reminder)
        return "\n\n".join([*parts, suffix]).strip()


class Json(dspy.JSONAdapter):
    """The same for JSON replies."""

    _messages: ClassVar[WeakKeyDictionary[Any, str]] = WeakKeyDictionary()

    def format_system_message(self, signature: Any) -> str:
        message = self._messages.get(signature)
        if message is None:
            message = self._messages[signature] = super().format_system_message(signature)
        return message

    def parse(self, signature: Any, completion: str) -> dict[str, Any]:
        try:
            return super().parse(signature, completion)
        except AdapterParseError as error:
            error.lm_response = completion  # DSPy keeps only what stands in its first braces, code is lost from it
            raise


def reply_of(error: AdapterParseError) -> str:
    """The text of a reply that did not parse; empty where it had none.

    For a reply without a text (thoughts and no more) DSPy gives its whole output, written as a Python dict.
    """
    return "" if error.message.startswith(_NO_TEXT) else (error.lm_response or "").strip()


def _written(field: Any, value: Any) -> Any:
    if type(value) is str:
        return value
    return value.format() if isinstance(value, REPLHistory) else format_field_value(field, value)


def adapter_for(lm: dspy.BaseLM) -> Any:
    """Native tools where the model has them, a JSON schema where the server enforces one, marked text elsewhere.

    DSPy's silent second try in JSON is off: it doubles calls. Who can use a reply that does not parse, uses it.
    """
    if lm.supports_function_calling:
        return Chat(use_native_function_calling=True, use_json_adapter_fallback=False)
    if lm.supports_response_schema:
        return Json(use_native_function_calling=False)
    return Chat(use_json_adapter_fallback=False)

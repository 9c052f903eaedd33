"""Questions of a model to the person: the REPL's `ask_user` and the agent's tool of the same name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from fleet_rlm.errors import InvalidInput
from fleet_rlm.integrations.daytona.offer import offered
from fleet_rlm.runtime.execution.observer import SCOPE
from fleet_rlm.runtime.execution.tree import TurnTree

NO_ANSWER: Final = "nobody answered in time"
NOBODY: Final = "nobody is there to answer"


class UserQuestions:
    """Asks for the run that calls. An answer is a text, a choice as it was given; it waits as the policy says."""

    def __init__(self, tree: TurnTree) -> None:
        self._tree = tree

    def for_code(self) -> Callable[..., Any]:
        """The host function of the REPL. Without an answer it gives a `Failure` of class `no_answer`."""

        @offered
        def ask_user(question: Any, choices: Any = None) -> Any:
            answer = self._ask(question, choices)
            return {"$failure": {"error": "no_answer", "message": self._nothing}} if answer is None else answer

        return ask_user

    def for_agent(self) -> list[Callable[..., Any]]:
        """The agent's tool, where the policy allows it and prompts speak of somebody who may answer."""
        return [self.ask_user] if self._tree.asks_person and self._tree.person_told else []

    def ask_user(self, question: str, choices: list[str] | None = None) -> str:
        """Ask the person something that neither the question nor the documents tell and the answer depends on. `choices`: what may be answered, none for any text."""  # noqa: E501 - one line for the model
        answer = self._ask(question, choices)
        return f"({self._nothing}: go on without it and say what you assumed)" if answer is None else answer

    def _ask(self, question: Any, choices: Any) -> str | None:
        """Errors: InvalidInput, TreeStopped when the run is stopped meanwhile."""
        if not isinstance(question, str):
            raise InvalidInput("a question must be a text that is not empty")
        return self._tree.approvals.ask(SCOPE.get(), kind="question", question=question, choices=_texts(choices))

    @property
    def _nothing(self) -> str:
        return NO_ANSWER if self._tree.person_told else NOBODY


def _texts(choices: Any) -> tuple[str, ...]:
    if choices is None:
        return ()
    given = cast("Sequence[Any]", choices)
    if not isinstance(choices, list | tuple) or not all(isinstance(choice, str) for choice in given):
        raise InvalidInput("choices must be a list of texts")
    return tuple(given)

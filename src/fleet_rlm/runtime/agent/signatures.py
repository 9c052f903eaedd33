"""The DSPy signatures of the agent."""

from __future__ import annotations

import functools
from typing import Any

import dspy


class Ask(dspy.Signature):
    """Answer the question with the help of the tools."""

    question: str = dspy.InputField()
    answer: str = dspy.OutputField(desc="The answer, in Markdown")


class Chat(dspy.Signature):
    """Answer the person's question about the attached documents.

    The documents are not in this prompt: they are named with their sizes. Look into small ones with `read_context` and
    `search_context`. Delegate whatever needs more than a few looks: `delegate` gives a task and documents to a
    recursive worker with its own Python sandbox that reads all of them. Name the places that the answer rests on as
    `path:line`, exactly as the tools gave them. When a result says that it is partial, say so.
    """

    question: str = dspy.InputField()
    documents: str = dspy.InputField(desc="Names, kinds and sizes of the attached documents")
    answer: str = dspy.OutputField(desc="The answer, in Markdown")


class Talk(dspy.Signature):
    """Answer the person's question from your own knowledge with `submit`. Only calculations and work on data, which
    need Python code, go to `delegate`: its worker has no internet and knows no more than you do."""

    question: str = dspy.InputField()
    answer: str = dspy.OutputField(desc="The answer, in Markdown")


class Reply(dspy.Signature):
    """Answer the person's question from your own knowledge."""

    question: str = dspy.InputField()
    history: dspy.History = dspy.InputField()
    answer: str = dspy.OutputField(desc="The answer, in Markdown")


class Direct(dspy.Signature):
    """Answer the question from the documents alone. If they do not hold the answer, say so."""

    question: str = dspy.InputField()
    documents: str = dspy.InputField()
    answer: str = dspy.OutputField(desc="The answer, in Markdown")


@functools.lru_cache(maxsize=64)
def hinted(signature: Any, hints: str) -> Any:
    """The same with more sentences in its instructions. One object for each."""
    return signature.with_instructions(f"{signature.instructions}\n{hints}") if hints else signature


@functools.cache
def with_memory(signature: Any) -> Any:
    """The same with the core memory before everything else. One object for each, so that prompts stay the same."""
    about = dspy.InputField(desc="What you are to keep in mind: who you are, for whom you work, what you noted")
    return signature.prepend("memory", about, type_=str)

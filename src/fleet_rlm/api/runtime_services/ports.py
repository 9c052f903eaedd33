"""The runtime as this layer needs it. `runtime.factory.Workspace` is the real one; tests bring a scripted one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from fleet_rlm.integrations.database import Sessions
from fleet_rlm.runtime.config import Settings
from fleet_rlm.runtime.content.blobs import BlobStore
from fleet_rlm.runtime.content.contexts import ContextStore
from fleet_rlm.runtime.execution.journal import Journal
from fleet_rlm.runtime.execution.requests import Submitted, TurnRequest

if TYPE_CHECKING:
    from fleet_rlm.runtime.models.spec import ModelOption, ModelSpec, Step


class Status(Protocol):
    """How the workspace stands; `isolation` is None until a sandbox server has proved one."""

    @property
    def version(self) -> str: ...
    @property
    def provider(self) -> str: ...
    @property
    def isolation(self) -> str | None: ...
    @property
    def isolation_detail(self) -> str | None: ...
    @property
    def model(self) -> str | None: ...
    @property
    def model_label(self) -> str | None: ...
    @property
    def demo(self) -> bool: ...
    @property
    def configured(self) -> bool: ...
    @property
    def active_turns(self) -> int: ...
    @property
    def warnings(self) -> Sequence[str]: ...


class Models(Protocol):
    """The model registry."""

    def resolve(self, model: str | None = None) -> ModelSpec: ...
    def test(self, spec: ModelSpec) -> list[Step]: ...
    def available(self) -> list[ModelOption]: ...


class Workspace(Protocol):
    """One open data folder with its engine. Everything but its plain attributes may block: use a thread."""

    journal: Journal
    blobs: BlobStore
    contexts: ContextStore
    sessions: Sessions

    @property
    def settings(self) -> Settings: ...
    @property
    def models(self) -> Models: ...

    def submit(self, request: TurnRequest) -> Submitted: ...
    def cancel(self, turn: str) -> bool: ...
    def active_turn(self, session: str) -> str | None: ...
    def status(self) -> Status: ...
    def prepare(self) -> None: ...
    def configure(self, settings: Settings) -> None: ...
    def close(self) -> Any: ...


ModelsFor = Callable[[Settings], Models]
"""A registry for settings that are only tried, not saved."""

"""Bodies of resume and fork."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fleet_rlm.api.schemas.resources import ModelName
from fleet_rlm.api.schemas.values import Body, LimitsBody

Id = Annotated[str, Field(min_length=1, max_length=80)]
EditText = Annotated[str, Field(min_length=1, max_length=400_000)]


class ResumeBody(Body):
    """Other limits for the rest of the turn; what is left out stays as it was, null takes a limit away."""

    limits: LimitsBody | None = None


class CellEdit(Body):
    """Other code for a cell, named by its id."""

    id: Id
    code: EditText


class CallEdit(Body):
    """Another text for a call, named by its id: what is asked, or what was answered."""

    call: Id
    text: EditText


class ForkEditBody(Body):
    """What is to be otherwise; what is left out stays as it was."""

    question: Annotated[str, Field(min_length=1, max_length=200_000, pattern=r"\S")] | None = None
    model: ModelName | None = None
    sub_model: ModelName | None = None
    limits: LimitsBody | None = None
    cell: CellEdit | None = None
    prompt: CallEdit | None = None
    answer: CallEdit | None = None


class ForkBody(Body):
    """A turn to fork. `at`: only its events up to this seq are shared, from there on it is worked off anew."""

    turn: Id
    at: Annotated[int, Field(ge=1)] | None = None
    edit: ForkEditBody = ForkEditBody()

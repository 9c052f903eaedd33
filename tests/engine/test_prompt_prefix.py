"""A provider's prompt cache finds the beginning of a prompt where an earlier one had the same: ours keep it the same."""

from os.path import commonprefix

from tests.engine.test_turns import ask
from tests.scripted import action, scripted

from fleet_rlm.runtime.factory import Workspace

CHILDREN = 3
STEPS = 4


def task(prompt: str) -> str:
    return prompt.split("Your task: ")[-1].splitlines()[0]


def reply(prompt: str) -> str:
    """A parent of four steps, whose third makes three children of two steps each."""
    step = int(prompt.split("[[ ## iteration ## ]]\n")[-1].split("/")[0])
    if task(prompt).startswith("child "):
        return action("SUBMIT(answer='ok')" if step == 2 else "print('a child looks')")
    if step == STEPS:
        return action("SUBMIT(answer=' '.join(got))")
    if step == STEPS - 1:
        return action(f"got = rlm_query_batched([f'child {{n}}' for n in range({CHILDREN})])\nprint(got)")
    return action(f"print('step {step} ' * 40)")


def test_the_prompts_of_a_run_grow_at_their_end_and_siblings_begin_alike(workspace: Workspace) -> None:
    lm = scripted(reply)
    result = ask(workspace, "how are the children?", mode="rlm", model=lm)
    assert (result.status, result.answer) == ("ok", "ok ok ok")
    prompts = lm.engine.prompts
    assert len(prompts) == STEPS + 2 * CHILDREN

    runs: dict[str, list[str]] = {}
    for prompt in prompts:
        runs.setdefault(task(prompt), []).append(prompt)
    for name, steps in runs.items():
        for earlier, later in zip(steps, steps[1:], strict=False):
            same = commonprefix([earlier, later])
            # What follows the steps so far: which step this is, the task once more, and how to reply.
            nothing_yet = "You have not interacted with the REPL environment yet."
            rest = earlier[len(same) :].removeprefix(nothing_yet).lstrip()
            assert rest.startswith("[[ ## iteration ## ]]") or rest[:1].isdigit(), f"{name}: {rest[:200]!r}"
            assert rest.count("[[ ## ") <= 4 and len(rest) < 400, f"{name}: {rest[:200]!r}"

    first = [steps[0] for name, steps in runs.items() if name.startswith("child ")]
    same = commonprefix(first)
    assert len(first) == CHILDREN and same.endswith("child "), f"siblings differ before their task: {same[-200:]!r}"
    assert len(same) > 0.9 * len(first[0])

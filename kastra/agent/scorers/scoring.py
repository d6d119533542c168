"""How is an agent's answer scored? Once it is there, by those of its scorers whose turn it is, and without asking a model.

The scores are one effect of the answer, `scores`: they are in the journal of its Run, and given once however often the Run is taken up
again. Direct calls answer with them, and `/metrics` counts them. Which answers are looked at follows from the Run and the place in it.
They change nothing: an answer isn't worse for a low one.

Source: scorers and sampling as in Mastra. Read next: `kastra.agent.scorers.catalogue`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from kastra.agent.models import refuse
from kastra.api.errors import Cause
from kastra.engine.step import Effect, StepContext
from kastra.telemetry import Histogram, Metrics

from .catalogue import Scorer, scorers_of
from .sample import sample

if TYPE_CHECKING:
    from kastra.agent.loop import AgentResult

_BOUNDS = tuple(step / 10 for step in range(11))


@dataclass(frozen=True, slots=True)
class Scoring:
    """The scorers of one agent.

    Args:
        scorers: that look at its answers.
        namespace: of the agent.
        agent: its name.
        counted: where scores are counted; None for nowhere.
    """

    scorers: Sequence[Scorer]
    namespace: str
    agent: str
    counted: Histogram | None

    async def scored(self, step: StepContext, result: "AgentResult") -> "AgentResult":
        """The answer with its scores; one that a processor ended has none."""
        chosen = [each for each in self.scorers if each.rate >= 1 or _share(step, each) < each.rate]
        if not chosen or result.tripwire is not None:
            return result

        async def look(_effect: Effect) -> list[dict[str, Any]]:
            seen = sample(result.given, result.messages, result.text, result.object)
            given = []
            for each in chosen:
                score = round(each.score(seen), 4)
                given.append({"scorer": each.name, "path": each.path, "score": score})
                if self.counted is not None:
                    self.counted.observe(score, self.namespace, self.agent, each.name)
            return given

        return replace(result, scores=await step.call("scores", look))


def scoring_of(spec: Mapping[str, Any], namespace: str, agent: str, metrics: Metrics | None) -> Scoring | None:
    """The scorers of a plain spec; None if there are none that have an effect.

    Raises:
        StepError: one can't be made of what is written (type `validation`).
    """
    if not spec.get("scorers"):
        return None
    found = list[Scorer]()
    for made in scorers_of(spec):
        if isinstance(made, Cause):
            raise refuse(f"Agent {namespace}/{agent}: {made.field}: {made.message.removeprefix('Invalid value: ')}")
        found.append(made)
    return Scoring(found, namespace, agent, None if metrics is None else scores_in(metrics)) if found else None


def scores_in(metrics: Metrics) -> Histogram:
    """Where scores are counted."""
    about = "Scores of agents' answers, from 0 to 1."
    return metrics.histogram("kastra_agent_score", about, ("namespace", "agent", "scorer"), _BOUNDS)


def _share(step: StepContext, scorer: Scorer) -> float:
    """A number from 0 to 1, always the same for a place in a Run."""
    told = f"{step.run_uid}/{step.key}/{scorer.path}".encode()
    return int.from_bytes(blake2b(told, digest_size=8).digest()) / 2**64

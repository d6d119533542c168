"""What may a model call come to, before it is made? The estimate that a budget reserves.

Tokens as the rate limits count them, with `maxTokens` for the answer where the call has that limit, and the price of the
dearest model that may be asked. It is worked out only where there is a budget. Read next: `kastra.engine.budget`.
"""

from collections.abc import Mapping, Sequence

from kastra.model.chain import ModelEntry
from kastra.model.interface import ModelRequest
from kastra.model.limits import estimate as tokens_of


def estimate(entries: Sequence[ModelEntry], request: ModelRequest) -> Mapping[str, float]:
    """The `tokens`, input and output together, and the `cost` in US dollars that a call may come to."""
    asked = request.parameters.get("maxTokens")
    sent = tokens_of(request) - (asked if isinstance(asked, int) else 0)
    tokens = cost = 0.0
    for entry in entries:
        limit = asked if isinstance(asked, int) else entry.parameters.get("maxTokens")
        answered = limit if isinstance(limit, int) else 0
        tokens = max(tokens, float(sent + answered))
        cost = max(cost, (sent * entry.price.get("in", 0.0) + answered * entry.price.get("out", 0.0)) / 1e6)
    return {"tokens": tokens, "cost": round(cost, 9)}

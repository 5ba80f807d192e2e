"""Who can serve a request at all, and why not. Pure."""

from __future__ import annotations

from routing.candidate import Candidate
from routing.needs import Needs


def eligible(candidate: Candidate, needs: Needs, *, free_only: bool = False) -> str | None:
    """Why the candidate can never serve such a request; None = it can, or may."""
    card = candidate.card
    if free_only and not candidate.is_free:
        return "is not free, and only free models are allowed (router.free_only)"
    if needs.tools and candidate.takes_tools is False:
        return "cannot call tools"
    if needs.vision and card.vision is False:
        return "cannot take images"
    if needs.json_schema and card.json_schema is False:
        return "cannot hold its answer to a JSON schema"
    output = needs.output_tokens or 0
    if card.max_output and output > card.max_output:
        return f"answers with at most {card.max_output:,} tokens, and {output:,} are asked for"
    if card.context_window and needs.least_size > card.context_window:
        return (
            f"has a window of {card.context_window:,} tokens, and the request takes at least "
            f"{needs.least_size:,}"
        )
    return None


def doubt(candidate: Candidate, needs: Needs) -> str | None:
    """Why the candidate only may be able to serve such a request; None = it surely is, or surely is not."""
    card = candidate.card
    if (needs.tools or needs.prefers_tools) and not candidate.takes_tools:
        return "is not known to call tools"
    if needs.vision and card.vision is None:
        return "is not known to take images"
    if needs.json_schema and card.json_schema is None:
        return "is not known to hold its answer to a JSON schema"
    if card.context_window and needs.size > card.context_window:
        return f"may be too small: {card.context_window:,} tokens, and the request may take {needs.size:,}"
    return None

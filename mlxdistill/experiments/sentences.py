"""The choice in words, the same for the command line, the JSON and the report."""

from __future__ import annotations

from mlxdistill.evaluation.comparisons import NO_DIFFERENCE
from mlxdistill.experiments.choice import Choice, Recommendation, Versus
from mlxdistill.statistics.multiple import POWER
from mlxdistill.statistics.written import signed

WORSE = "worse"


def verdict(name: str, choice: Choice) -> str:
    """How a candidate stands to the one with the most rows right."""
    if name == choice.best:
        return "only candidate" if not choice.against_best else "most rows right"
    versus = choice.against_best[name]
    if not versus.n:
        return "no row in common"
    return WORSE if versus.sign < 0 else NO_DIFFERENCE


def recommendation_sentence(recommendation: Recommendation, choice: Choice, margin: float) -> str:
    """What to do with one teacher, and why."""
    own, pick = recommendation.configured, recommendation.recommended
    if pick != own:
        said = f"Use {pick} instead of {own}: {_better(choice.against_configured[pick], choice)}."
    else:
        said = f"Keep {own}: {_why_kept(own, choice)}."
    if recommendation.faster is not None:
        said += (
            f" {recommendation.faster} is clearly faster, and no more than {100 * margin:.3g} points less accurate"
            f" than {pick} (95 % interval)."
        )
    return said


def _why_kept(own: str, choice: Choice) -> str:
    rivals = {name: versus for name, versus in choice.against_configured.items() if versus.other == own and versus.n}
    if not rivals:
        return "there is nothing to compare it with"
    nearest = max(rivals, key=lambda name: rivals[name].value)
    if rivals[nearest].value <= 0:
        return "no other candidate has more rows right"
    return f"nothing is shown to be better; {nearest} comes closest, and {_better(rivals[nearest], choice)}"


def _better(versus: Versus, choice: Choice) -> str:
    p_value = versus.p_adjusted or 0.0
    shown = "p < 0.001" if p_value < 0.001 else f"p {p_value:.3f}"
    compared = len(choice.against_configured)
    corrected = f", corrected for {compared} comparisons" if compared > 1 else ""
    ends = versus.difference.ci if versus.difference else None
    interval = f"95 % interval {signed(100 * ends[0])} to {signed(100 * ends[1])}" if ends else "no interval"
    return f"its accuracy differs by {signed(100 * versus.value)} points ({interval}; {shown}{corrected})"


def caveats(choice: Choice, rows: int) -> list[str]:
    """What these rows could have shown, and what the best of several is worth."""
    said = []
    if any(versus.n for versus in choice.against_configured.values()):
        given = (
            f"With {rows:,} rows, of which {100 * choice.disagreement:.1f} % tell a candidate from the configured one"
        )
        grouped = " at most, since they come in groups" if choice.grouped else ""
        if choice.detectable is None:
            said.append(f"{given}, no difference could have been shown, however large: more rows with gold are needed.")
        else:
            said.append(
                f"{given}, a difference of {100 * choice.detectable:.1f} points would have been found in"
                f" {100 * POWER:.0f} % of cases{grouped}; smaller ones may be there and not show."
            )
    candidates = len(choice.against_best) + 1
    if candidates > 2:
        said.append(
            f"The best of {candidates} candidates looks better than it is, because the same rows chose it; how good it"
            " is, the test sets can tell, which were not touched."
        )
    return said

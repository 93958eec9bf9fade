"""`winnow simulate`: a synthetic marketplace as an event log."""

import datetime as dt
from typing import Annotated, Any

import typer

from pipelines.commands.console import JsonOption, OutOption, print_summary, show_progress

_SIZES = "Size"
_EFFECTS = "Planted effects, all on by default"


def _size(flag: str, default: str, text: str) -> Any:
    # The defaults are MarketplaceConfig's, which is not imported for --help; a test compares the two.
    return typer.Option(flag, help=text, show_default=default, rich_help_panel=_SIZES)


def _effect(flag: str, text: str) -> Any:
    return typer.Option(f"--no-{flag}", help=text, show_default=False, rich_help_panel=_EFFECTS)


def simulate(
    context: typer.Context,
    *,
    out: OutOption,
    num_users: Annotated[int | None, _size("--users", "1000", "Users.")] = None,
    num_items: Annotated[int | None, _size("--items", "8000", "Items.")] = None,
    num_shops: Annotated[int | None, _size("--shops", "2000", "Shops.")] = None,
    num_categories: Annotated[int | None, _size("--categories", "20", "Item categories.")] = None,
    num_brands: Annotated[int | None, _size("--brands", "200", "Brands.")] = None,
    num_days: Annotated[int | None, _size("--days", "14", "Days.")] = None,
    requests_per_user_day: Annotated[
        float | None, _size("--requests-per-user-day", "1.8", "Mean requests of a user on a day.")
    ] = None,
    num_candidates: Annotated[int | None, _size("--candidates", "50", "Candidates of a request.")] = None,
    page_size: Annotated[int | None, _size("--page-size", "10", "Items shown of a request.")] = None,
    start_date: Annotated[str | None, _size("--start-date", "2024-01-01", "First day, YYYY-MM-DD.")] = None,
    seed: Annotated[int | None, _size("--seed", "0", "The same seed and sizes give the same log.")] = None,
    interest: Annotated[bool, _effect("interest", "Users prefer no categories.")] = False,
    drift: Annotated[bool, _effect("drift", "Interests do not change over time.")] = False,
    taste: Annotated[bool, _effect("taste", "No latent taste to find.")] = False,
    shop_affinity: Annotated[bool, _effect("shop-affinity", "Users have no favourite shops.")] = False,
    long_tail: Annotated[bool, _effect("long-tail", "Items are exposed alike.")] = False,
    cold_start: Annotated[bool, _effect("cold-start", "All users and items are there at once.")] = False,
    position_bias: Annotated[bool, _effect("position-bias", "All positions are examined alike.")] = False,
    page_context: Annotated[bool, _effect("page-context", "Clicks ignore the rest of the page.")] = False,
    conversion_match: Annotated[
        bool, _effect("conversion-match", "Conversions ignore how well the item suits the user.")
    ] = False,
    dwell_signal: Annotated[bool, _effect("dwell-signal", "Dwell time tells nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """A synthetic marketplace with planted effects, and its true click probabilities beside it.

    The events are simulated, not observed: good for learning the pipeline and for tests with a known answer.
    """
    from sources.marketplace import EFFECTS, MarketplaceConfig, MarketplaceConfigError
    from sources.marketplace import simulate as simulate_marketplace

    values = {name: value for name, value in context.params.items() if value is not None}
    values |= {effect: not values[effect] for effect in EFFECTS}
    for name in ("out", "as_json"):
        values.pop(name)
    try:
        config = MarketplaceConfig(**values)
    except MarketplaceConfigError as error:
        options = {parameter.name: parameter.opts[0] for parameter in context.command.params}
        raise typer.BadParameter(error.problem, param_hint=options[error.field]) from error
    with show_progress() as progress:

        def report(day: dt.date, _: int) -> None:
            progress("simulating days", (day - config.start_date).days + 1, config.num_days)

        summary = simulate_marketplace(config, out, report)
    print_summary(out, as_json, {"oracle_auc": summary.oracle_auc})

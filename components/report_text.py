"""What is said of checks and metrics, on the command line and on the run's page alike.

Nothing heavy is imported: commands that only print need neither TensorFlow nor TFX.
"""

from collections.abc import Mapping
from typing import Any


def describe_check(check: Mapping[str, Any]) -> tuple[str, str, str]:
    """The value, the bound and the verdict of a gate's check, see `components.gates.Check`."""
    sign = "<=" if check["at_most"] else ">" if check["above"] else ">="
    verdict = "passed" if check["passed"] else f"FAILED by {float(check['missed_by']):.4f}"
    return f"{float(check['value']):.4f}", f"{sign} {check['bound']:.4f}", verdict


def describe_queries(metrics: Mapping[str, Any]) -> str:
    """What the metrics of `RetrievalEvaluator` are of."""
    seen = "kept"
    if metrics["exclude_seen"]:
        seen = f"removed and {metrics['num_repeats']:,} clicks on them not asked"
    return (
        f"{metrics['num_queries']:,} clicks of {metrics['num_users']:,} users, "
        f"{metrics['num_items']:,} items, seen items {seen}; means over users"
    )


def describe_rows(metrics: Mapping[str, Any]) -> str:
    """What the metrics of `PrerankEvaluator` and `RankEvaluator` are of."""
    kind = "shown rows"
    if metrics["drawn_per_click"]:
        kind = f"rows, {metrics['drawn_per_click']} of them drawn for each click,"
    return (
        f"{metrics['num_rows']:,} {kind} of {metrics['num_users']:,} users in {metrics['num_requests']:,} "
        f"requests; {metrics['dropped_users_share']:.0%} of the users, with "
        f"{metrics['dropped_rows_share']:.0%} of the rows, have rows of one class and no part in gauc"
    )


def describe_pairs(pairs: Mapping[str, Any]) -> str:
    """What its metrics of item to item are of."""
    return (
        f"{pairs['num_queries']:,} of these clicks, less than {pairs['session_gap_seconds']:,} s after "
        "another, asked by the item clicked before"
    )

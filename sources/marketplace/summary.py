"""What a simulated log holds, counted while it is written."""

import dataclasses

import numpy as np

from sources.marketplace.requests import Block

NUM_BINS = 20_000  # of click probability; ties inside a bin count half


@dataclasses.dataclass(frozen=True)
class Summary:
    """Counts of a simulated log and the ceiling of any model of it.

    Attributes:
      num_requests: pages.
      num_candidates: rows.
      num_shown: shown rows.
      num_clicks: clicked rows.
      num_conversions: converted rows.
      click_rate: clicks per shown row.
      conversion_rate: conversions per click.
      oracle_auc: AUC of the true click probability, page effects included, over the shown rows.
      oracle_conversion_auc: AUC of the true conversion probability over the clicks.
    """

    num_requests: int
    num_candidates: int
    num_shown: int
    num_clicks: int
    num_conversions: int
    click_rate: float
    conversion_rate: float
    oracle_auc: float
    oracle_conversion_auc: float


class SummaryBuilder:
    """Counts block by block, in constant memory."""

    def __init__(self) -> None:
        self._num_requests = self._num_candidates = 0
        self._clicks = np.zeros((2, NUM_BINS), np.int64)  # [label, bin]
        self._conversions = np.zeros((2, NUM_BINS), np.int64)

    @property
    def num_shown(self) -> int:
        """Shown rows so far."""
        return int(self._clicks.sum())

    def add(self, block: Block) -> None:
        """Counts a block."""
        self._num_requests += block.device.size
        self._num_candidates += block.item.size
        _count(self._clicks, block.click_probability[block.shown], block.clicked)
        _count(self._conversions, block.conversion_probability[block.clicked_row], block.converted)

    def build(self) -> Summary:
        """The counts so far."""
        num_clicks, num_conversions = int(self._clicks[1].sum()), int(self._conversions[1].sum())
        return Summary(
            num_requests=self._num_requests,
            num_candidates=self._num_candidates,
            num_shown=self.num_shown,
            num_clicks=num_clicks,
            num_conversions=num_conversions,
            click_rate=num_clicks / max(self.num_shown, 1),
            conversion_rate=num_conversions / max(num_clicks, 1),
            oracle_auc=_compute_auc(self._clicks),
            oracle_conversion_auc=_compute_auc(self._conversions),
        )


def _count(counts: np.ndarray, probability: np.ndarray, label: np.ndarray) -> None:
    bins = np.minimum((probability * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    counts += np.bincount(bins + NUM_BINS * label, minlength=2 * NUM_BINS).reshape(2, NUM_BINS)


def _compute_auc(counts: np.ndarray) -> float:
    """AUC from counts [label, bin]; 0.5 where one label is absent."""
    negatives, positives = counts.astype(np.float64)
    pairs = negatives.sum() * positives.sum()
    below = np.cumsum(negatives) - negatives
    return float(positives @ (below + negatives / 2) / pairs) if pairs else 0.5

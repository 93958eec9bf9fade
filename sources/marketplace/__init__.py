"""The simulated marketplace: an event log with planted effects, and its ground truth beside it."""

from sources.marketplace.config import EFFECTS, MarketplaceConfig, MarketplaceConfigError
from sources.marketplace.oracle import Oracle
from sources.marketplace.simulate import simulate
from sources.marketplace.summary import Summary

__all__ = ["EFFECTS", "MarketplaceConfig", "MarketplaceConfigError", "Oracle", "Summary", "simulate"]

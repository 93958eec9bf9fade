"""The world behind a log: the items and the users, rebuilt from the config alone."""

import dataclasses

import numpy as np

from sources.marketplace.catalogue import Catalogue, build_catalogue
from sources.marketplace.config import MarketplaceConfig
from sources.marketplace.population import Population, build_population


@dataclasses.dataclass(frozen=True)
class World:
    """Everything that is true of the marketplace before the first request.

    Attributes:
      config: what it was built from.
      catalogue: the items.
      population: the users.
    """

    config: MarketplaceConfig
    catalogue: Catalogue
    population: Population

    def checksum(self) -> dict[str, float]:
        """One number per array, to tell whether a rebuilt world is the same one up to rounding."""
        sums = {}
        for part in (self.catalogue, self.population):
            for field in dataclasses.fields(part):
                values = np.abs(getattr(part, field.name).ravel().astype(np.float64))
                sums[field.name] = float(values @ (1.0 + np.arange(values.size) % 97))
        return sums


def build_world(config: MarketplaceConfig) -> World:
    """Draws the world; the same config gives the same world."""
    catalogue = build_catalogue(config)
    return World(config, catalogue, build_population(config, catalogue))

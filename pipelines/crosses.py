"""Which of the configured crosses a source can have, checked before anything runs."""

import difflib

from tensorflow_metadata.proto.v0 import schema_pb2

from pipelines.config import ConfigError, TransformConfig
from schemas import features as f


def select_crosses(source: str, config: TransformConfig) -> dict[str, int]:
    """The crosses for the Transform graph, with their sizes.

    Of the default crosses those are left out that the source lacks a feature of. Crosses of one's own are
    taken by their word.

    Args:
      source: the source's schema, see `schemas.features.load_schema`.
      config: what the run was told.

    Raises:
      ConfigError: if a cross of one's own is not of two or more features that can be crossed.
    """
    schema = f.load_schema(source, f.ExampleType.IMPRESSION)
    features = {x.name: x for x in f.read_features(schema, f.Role.QUERY, f.Role.CANDIDATE)}
    if config == TransformConfig():
        return {cross: size for cross, size in config.crosses.items() if features.keys() >= _parts(cross)}
    for cross in config.crosses:
        _check_cross(cross, source, features)
    return dict(config.crosses)


def _parts(cross: str) -> set[str]:
    return set(f.split_cross(cross))


def _check_cross(cross: str, source: str, features: dict[str, f.Feature]) -> None:
    where = f"transform.crosses, {cross!r}"
    parts = f.split_cross(cross)
    if len(_parts(cross)) < max(len(parts), 2):
        raise ConfigError(f'{where}: expected two or more different features, as "user_id x item_id".')
    for part in parts:
        if part not in features:
            nearest = difflib.get_close_matches(part, features, n=1, cutoff=0.0)[0]
            raise ConfigError(
                f"{where}: the schema {source!r} has no query or candidate feature {part!r}. "
                f"Did you mean {nearest!r}? Features: {', '.join(sorted(features))}."
            )
        if problem := _find_problem(features[part]):
            raise ConfigError(f"{where}: {part} {problem}; leave it out.")


def _find_problem(feature: f.Feature) -> str | None:
    if feature.is_list:
        return "is a list, expected features of one value"
    if feature.type == schema_pb2.FLOAT:
        return "is a fractional number, of which hardly two are equal; expected strings or whole numbers"
    if f.CROSS_SEPARATOR in feature.name:
        return f"has {f.CROSS_SEPARATOR!r} in its name, which would not be told from the names of a cross"
    return None

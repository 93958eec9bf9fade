"""What of a configuration depends on the schema or on two sections at once; checked before a run."""

import dataclasses
import difflib
from collections.abc import Collection

from pipelines.config import ConfigError, RunConfig
from pipelines.crosses import select_crosses
from schemas import features as f
from trainers.preprocessing import CROSSES_GROUP

_SERVED = (f.Role.QUERY, f.Role.CANDIDATE)
_PRIVILEGED = (f.Role.PRIVILEGED, f.Role.PRIVILEGED_POST_EVENT)
_SHARED_ENCODINGS = ("vocabulary", "hash")  # by which a history's column has the table of its item's


@dataclasses.dataclass(frozen=True)
class _Source:
    """What models may see of a source.

    Attributes:
      name: of its schema.
      served: the features of query and candidate.
      privileged: the teacher's, those that are encoded.
      crossed: the roles of which there is a cross of the query's features alone, or of the candidate's.
    """

    name: str
    served: tuple[f.Feature, ...]
    privileged: tuple[f.Feature, ...]
    crossed: frozenset[f.Role]

    def find_groups(self, *roles: f.Role, has_history: bool = True) -> set[str]:
        """The groups of the roles' features and crosses; without history, those of no list of the query."""
        groups = {
            x.group
            for x in self.served
            if x.role in roles and (has_history or x.role is not f.Role.QUERY or not x.is_list)
        }
        return groups | ({CROSSES_GROUP} if self.crossed.intersection(roles) else set())


def check_config(source: str, config: RunConfig) -> None:
    """Refuses what a node would stumble over later, or what would silently measure nothing.

    Args:
      source: the source's schema, see `schemas.features.load_schema`.
      config: what the run was told.

    Raises:
      ConfigError: naming the key and what to do.
    """
    known = _read_source(source, config)
    served = {x.group for x in known.served} | {CROSSES_GROUP}
    privileged = {x.group for x in known.privileged}
    for section in ("retrieval", "item_to_item", "prerank", "ranking"):
        _check_groups(source, section, getattr(config, section).disabled_groups, served)
    _check_groups(source, "prerank_teacher", config.prerank_teacher.disabled_groups, served | privileged)
    for section in ("prerank", "prerank_teacher", "ranking"):
        _check_sides(known, section, getattr(config, section).disabled_groups)
    _check_ranker(known, config)
    _check_teacher(known, config)
    _check_distillation(config)


def _read_source(source: str, config: RunConfig) -> _Source:
    schema = f.load_schema(source, f.ExampleType.IMPRESSION)
    served = f.read_features(schema, *_SERVED)
    roles = {x.name: x.role for x in served}
    sides = [{roles[part] for part in f.split_cross(x)} for x in select_crosses(source, config.transform)]
    return _Source(
        name=source,
        served=served,
        privileged=tuple(x for x in f.read_features(schema, *_PRIVILEGED) if x.encodings),
        crossed=frozenset(role for side in sides if len(side) == 1 for role in side),
    )


def _check_groups(source: str, section: str, disabled: tuple[str, ...], known: set[str]) -> None:
    groups = sorted(known)
    for group in disabled:
        if group not in known:
            nearest = difflib.get_close_matches(group, groups, n=1, cutoff=0.0)[0]
            raise ConfigError(
                f"{section}.disabled_groups: no group {group!r} in the schema {source!r}. "
                f"Did you mean {nearest!r}? Groups: {', '.join(groups)}."
            )


def _check_sides(source: _Source, section: str, disabled: tuple[str, ...]) -> None:
    """A score is of a query and a candidate: each has a feature that is left on."""
    for role in _SERVED:
        groups = source.find_groups(role)
        if not groups.difference(disabled):
            raise ConfigError(
                f"{section}.disabled_groups {list(disabled)} leave the {role.value} side no feature: "
                f"take one of {', '.join(sorted(groups))} out."
            )


def _check_ranker(source: _Source, config: RunConfig) -> None:
    """What `trainers.ranking.features.select_features` would refuse, once the trainers before have run."""
    ranker = config.ranking
    disabled = f"ranking.disabled_groups {list(ranker.disabled_groups)}"
    if ranker.interest == "none":
        groups = source.find_groups(f.Role.QUERY, has_history=False)
        if not groups.difference(ranker.disabled_groups):
            raise ConfigError(
                f"{disabled} leave of user and context the history alone, at which ranking.interest 'none' "
                "does not look: take one of their groups out, or set ranking.interest to 'din' or 'augru'."
            )
        return
    history = _find_item_columns(source, ranker.disabled_groups)
    if not history:
        raise ConfigError(
            f"ranking.interest {ranker.interest!r} needs a history of what items have, such as item ids or "
            f"categories, and {disabled} leave none: take the groups of history and items out, or set "
            "ranking.interest to 'none'."
        )
    if ranker.has_auxiliary_loss and f.HISTORY_ITEM_ID not in history:
        raise ConfigError(
            f"ranking.auxiliary_weight {ranker.auxiliary_weight:g} needs item ids in history and items, to "
            f"draw items that were not clicked, and {disabled} leave none: take the groups of both out, or "
            "set ranking.auxiliary_weight to 0."
        )


def _find_item_columns(source: _Source, disabled: Collection[str]) -> set[str]:
    """The history's columns that are left on and share their table with an item's feature that is, too."""
    tables: dict[f.Role, dict[tuple[str, str], str]] = {role: {} for role in _SERVED}
    for x in source.served:
        if x.group not in disabled and x.is_list == (x.role is f.Role.QUERY):
            for encoding in x.encodings:
                tables[x.role][x.name.removeprefix(f.HISTORY_PREFIX), encoding.name] = x.name
    shared = tables[f.Role.QUERY].keys() & tables[f.Role.CANDIDATE].keys()
    return {tables[f.Role.QUERY][table] for table in shared if table[1] in _SHARED_ENCODINGS}


def _check_teacher(source: _Source, config: RunConfig) -> None:
    """A teacher that knows less than who learns from it, or other labels, has nothing to teach."""
    student, teacher = config.prerank, config.prerank_teacher
    if teacher.tasks[: len(student.tasks)] != student.tasks:
        raise ConfigError(
            f"prerank.tasks is {list(student.tasks)} and prerank_teacher.tasks {list(teacher.tasks)}: a "
            "student learns what its teacher knows. Give the teacher the student's tasks, or more."
        )
    learners = [("prerank", "student", True)]
    if config.ranking.booster_units is None:
        learners.append(("ranking", "ranker", config.ranking.interest != "none"))
    for section, learner, has_history in learners:
        groups = source.find_groups(*_SERVED, has_history=has_history)  # a cross of both sides is no one's
        groups.difference_update(getattr(config, section).disabled_groups)
        missing = sorted(groups.intersection(teacher.disabled_groups))
        if missing:
            raise ConfigError(
                f"prerank_teacher.disabled_groups {missing}: the {learner} sees them, and a teacher must see "
                f"what it teaches on. Disable them in {section}.disabled_groups too, or in neither."
            )
    before = {x.group for x in source.privileged if x.role is f.Role.PRIVILEGED}
    if teacher.form != "md" and not before.difference(teacher.disabled_groups):
        raise ConfigError(
            f"prerank_teacher.form {teacher.form!r} needs privileged features, and the schema "
            f"{source.name!r} has none that are left on. Mark some in the schema (role=privileged, an "
            "encode= tag), take their groups out of prerank_teacher.disabled_groups, or set the form to "
            "'md', a bigger model on the student's features."
        )


def _check_distillation(config: RunConfig) -> None:
    tasks = config.prerank.tasks
    shares = [x.soft_weights for x in config.distillation.losses if x.soft_weights is not None]
    if any(len(weights) != len(tasks) for weights in shares):
        raise ConfigError(
            f"distillation.losses: soft_weights {[list(x) for x in shares]} do not fit prerank.tasks "
            f"{list(tasks)}: expected one per task."
        )
    if config.distillation.mode != "two_stage":
        raise ConfigError(
            "distillation.mode 'joint' is for the study (winnow distill-study): in a run the teacher is "
            "trained on days of its own, by a node of its own. Set it to 'two_stage'."
        )

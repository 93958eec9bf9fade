"""What of a configuration depends on the schema or on two sections at once; checked before a run."""

import difflib

from pipelines.config import ConfigError, RunConfig
from pipelines.crosses import select_crosses
from schemas import features as f
from trainers.preprocessing import CROSSES_GROUP

_SERVED = (f.Role.QUERY, f.Role.CANDIDATE)
_PRIVILEGED = (f.Role.PRIVILEGED, f.Role.PRIVILEGED_POST_EVENT)


def check_config(source: str, config: RunConfig) -> None:
    """Refuses what a node would stumble over later, or what would silently measure nothing.

    Args:
      source: the source's schema, see `schemas.features.load_schema`.
      config: what the run was told.

    Raises:
      ConfigError: naming the key and what to do.
    """
    schema = f.load_schema(source, f.ExampleType.IMPRESSION)
    served = {x.group for x in f.read_features(schema, *_SERVED)} | {CROSSES_GROUP}
    privileged = {x.group for x in f.read_features(schema, *_PRIVILEGED) if x.encodings}
    for section in ("retrieval", "item_to_item", "prerank", "ranking"):
        _check_groups(source, section, getattr(config, section).disabled_groups, served)
    teacher = config.prerank_teacher
    _check_groups(source, "prerank_teacher", teacher.disabled_groups, served | privileged)
    for section in ("prerank", "prerank_teacher", "ranking"):
        _check_sides(source, config, section)
    _check_teacher(source, config)
    before = {x.group for x in f.read_features(schema, f.Role.PRIVILEGED) if x.encodings}
    if teacher.form != "md" and not before - set(teacher.disabled_groups):
        raise ConfigError(
            f"prerank_teacher.form {teacher.form!r} needs privileged features, and the schema {source!r} has "
            "none that are left on. Mark some in the schema (role=privileged, an encode= tag), take their "
            "groups out of prerank_teacher.disabled_groups, or set the form to 'md', a bigger model on the "
            "student's features."
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


def _check_sides(source: str, config: RunConfig, section: str) -> None:
    """A score is of a query and a candidate: each has a feature that is left on."""
    schema = f.load_schema(source, f.ExampleType.IMPRESSION)
    disabled = getattr(config, section).disabled_groups
    for role in _SERVED:
        groups = {x.group for x in f.read_features(schema, role)}
        if role in _find_crossed_sides(source, config):
            groups.add(CROSSES_GROUP)
        if not groups.difference(disabled):
            raise ConfigError(
                f"{section}.disabled_groups {list(disabled)} leave the {role.value} side no feature: "
                f"take one of {', '.join(sorted(groups))} out."
            )


def _check_teacher(source: str, config: RunConfig) -> None:
    """A teacher that knows less than its student, or other labels, has nothing to teach."""
    student, teacher = config.prerank, config.prerank_teacher
    if teacher.tasks[: len(student.tasks)] != student.tasks:
        raise ConfigError(
            f"prerank.tasks is {list(student.tasks)} and prerank_teacher.tasks {list(teacher.tasks)}: a "
            "student learns what its teacher knows. Give the teacher the student's tasks, or more."
        )
    schema = f.load_schema(source, f.ExampleType.IMPRESSION)
    groups = {x.group for x in f.read_features(schema, *_SERVED)}
    if _find_crossed_sides(source, config):  # a cross of both sides is no student's
        groups.add(CROSSES_GROUP)
    missing = sorted(groups.difference(student.disabled_groups).intersection(teacher.disabled_groups))
    if missing:
        raise ConfigError(
            f"prerank_teacher.disabled_groups {missing}: the student sees them, and a teacher "
            "must see what its student sees. Disable them for both, or for neither."
        )
    shares = [x.soft_weights for x in config.distillation.losses if x.soft_weights is not None]
    if any(len(weights) != len(student.tasks) for weights in shares):
        raise ConfigError(
            f"distillation.losses: soft_weights {[list(x) for x in shares]} do not fit prerank.tasks "
            f"{list(student.tasks)}: expected one per task."
        )
    if config.distillation.mode != "two_stage":
        raise ConfigError(
            "distillation.mode 'joint' is for the study (winnow distill-study): in a run the teacher is "
            "trained on days of its own, by a node of its own. Set it to 'two_stage'."
        )


def _find_crossed_sides(source: str, config: RunConfig) -> set[f.Role]:
    """The roles of which there is a cross of the query's features alone, or of the candidate's."""
    schema = f.load_schema(source, f.ExampleType.IMPRESSION)
    roles = {x.name: x.role for x in f.read_features(schema, *_SERVED)}
    sides = [{roles[part] for part in f.split_cross(x)} for x in select_crosses(source, config.transform)]
    return {role for side in sides if len(side) == 1 for role in side}

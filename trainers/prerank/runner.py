"""TFX's hook: unpack, train, export."""

from pydantic import TypeAdapter
from tensorflow_transform import TFTransformOutput
from tfx.components.trainer.fn_args_utils import FnArgs

from trainers.losses.distillation_config import DistillationConfig
from trainers.prerank import train
from trainers.prerank.config import StudentConfig, TeacherConfig
from trainers.prerank.export import export_student, export_teacher, load_teacher
from trainers.prerank.feature_choice import select_features
from trainers.scorers.rows import EVAL, TRAIN, RowSource

TEACHER_CONFIG = "teacher_config"
STUDENT_CONFIG = "student_config"
DISTILLATION_CONFIG = "distillation_config"


def run_fn(fn_args: FnArgs) -> None:
    """Trains a scorer and exports it to `fn_args.serving_model_dir`.

    `fn_args.custom_config` says which: a teacher has `TEACHER_CONFIG` alone, a control `STUDENT_CONFIG`
    besides, a student `DISTILLATION_CONFIG` too, and its teacher is `fn_args.base_model`. The teacher learns
    from the oldest days of the training split, the others from the rest: of its own rows a teacher knows the
    labels.
    """
    custom_config = fn_args.custom_config
    teacher_config = TypeAdapter(TeacherConfig).validate_python(custom_config[TEACHER_CONFIG])
    transform_output = TFTransformOutput(fn_args.transform_output)
    source = RowSource({TRAIN: fn_args.train_files, EVAL: fn_args.eval_files}, transform_output)
    cut_ms = source.find_cut(teacher_config.days_fraction)
    log_dir, path = fn_args.model_run_dir, fn_args.serving_model_dir
    if STUDENT_CONFIG not in custom_config:
        training = source.read(select_features(source.features, teacher_config), until_ms=cut_ms)
        result = train.train_teacher(teacher_config, training, log_dir)
        export_teacher(result.scorer, cut_ms, transform_output, path)
        return
    config = TypeAdapter(StudentConfig).validate_python(custom_config[STUDENT_CONFIG])
    if DISTILLATION_CONFIG not in custom_config:
        training = source.read(select_features(source.features, config), since_ms=cut_ms)
        result = train.train_control(config, training, log_dir)
    else:
        distillation = TypeAdapter(DistillationConfig).validate_python(custom_config[DISTILLATION_CONFIG])
        teacher = load_teacher(fn_args.base_model)
        seen = [select_features(source.features, x) for x in (config, teacher_config)]
        training = source.read(*seen, since_ms=teacher.until_ms)
        result = train.train_student(config, distillation, training, teacher, log_dir)
    export_student(result.scorer, transform_output, path)

"""TFX's hook: unpack, train, export."""

from pydantic import TypeAdapter
from tensorflow_transform import TFTransformOutput
from tfx.components.trainer.fn_args_utils import FnArgs

from trainers.losses.distillation_config import DistillationConfig
from trainers.prerank.export import load_teacher
from trainers.ranking.config import RankerConfig
from trainers.ranking.export import export_ranker
from trainers.ranking.features import select_features
from trainers.ranking.train import train_ranker
from trainers.scorers.rows import EVAL, TRAIN, RowSource

RANKER_CONFIG = "ranker_config"
DISTILLATION_CONFIG = "distillation_config"


def run_fn(fn_args: FnArgs) -> None:
    """Trains a ranker and exports it to `fn_args.serving_model_dir`.

    `fn_args.custom_config` holds `RANKER_CONFIG` and `DISTILLATION_CONFIG`. Unless it has a booster the
    ranker learns from pre-ranking's teacher, `fn_args.base_model`, too, on days that it has not learnt from.
    """
    custom_config = fn_args.custom_config
    config = TypeAdapter(RankerConfig).validate_python(custom_config[RANKER_CONFIG])
    transform_output = TFTransformOutput(fn_args.transform_output)
    source = RowSource({TRAIN: fn_args.train_files, EVAL: fn_args.eval_files}, transform_output)
    seen = select_features(source.features, config).everything
    if config.booster_units is not None:
        result = train_ranker(config, source.read(seen), fn_args.model_run_dir)
    else:
        teacher = load_teacher(fn_args.base_model)
        taught_by = [x for x in source.features if x.name in teacher.features]
        result = train_ranker(
            config,
            source.read(seen, taught_by, since_ms=teacher.until_ms),
            fn_args.model_run_dir,
            teacher=teacher,
            distillation=TypeAdapter(DistillationConfig).validate_python(custom_config[DISTILLATION_CONFIG]),
        )
    export_ranker(result.scorer, transform_output, fn_args.serving_model_dir)

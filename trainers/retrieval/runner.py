"""TFX's hook: unpack, train, export."""

from pydantic import TypeAdapter
from tensorflow_transform import TFTransformOutput
from tfx.components.trainer.fn_args_utils import FnArgs

from trainers.retrieval.config import RetrievalConfig
from trainers.retrieval.export import export_towers
from trainers.retrieval.train import train_and_evaluate


def run_fn(fn_args: FnArgs) -> None:
    """Trains the two towers and exports them to `fn_args.serving_model_dir`."""
    custom_config = fn_args.custom_config
    transform_output = TFTransformOutput(fn_args.transform_output)
    result = train_and_evaluate(
        TypeAdapter(RetrievalConfig).validate_python(custom_config["config"]),
        fn_args.train_files,
        fn_args.eval_files,
        transform_output,
        log_dir=fn_args.model_run_dir,
        warm_start_dir=custom_config["origin"]["warm_start_dir"] or None,
    )
    export_towers(result.model, transform_output, fn_args.serving_model_dir, custom_config["origin"])

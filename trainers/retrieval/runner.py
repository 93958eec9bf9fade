"""TFX's hook: unpack, train, export."""

import logging

import tensorflow as tf
from pydantic import TypeAdapter
from tensorflow_transform import TFTransformOutput
from tfx.components.trainer.fn_args_utils import FnArgs

from trainers.retrieval.config import ItemToItemConfig, RetrievalConfig
from trainers.retrieval.data import NoPositivesError
from trainers.retrieval.export import export_item_towers, export_towers
from trainers.retrieval.train import train_and_evaluate

CONFIG = "config"
ITEM_CONFIG = "item_to_item_config"


def run_fn(fn_args: FnArgs) -> None:
    """Trains two towers and exports them to `fn_args.serving_model_dir`.

    `fn_args.custom_config` has the configuration under `CONFIG` for user to item, or under `ITEM_CONFIG` for
    item to item.
    """
    if ITEM_CONFIG in fn_args.custom_config:
        _train_item_to_item(fn_args)
    else:
        _train_user_to_item(fn_args)


def _train_user_to_item(fn_args: FnArgs) -> None:
    custom_config = fn_args.custom_config
    transform_output = TFTransformOutput(fn_args.transform_output)
    result = train_and_evaluate(
        TypeAdapter(RetrievalConfig).validate_python(custom_config[CONFIG]),
        fn_args.train_files,
        fn_args.eval_files,
        transform_output,
        log_dir=fn_args.model_run_dir,
        warm_start_dir=custom_config["origin"]["warm_start_dir"] or None,
    )
    export_towers(result.model, transform_output, fn_args.serving_model_dir, custom_config["origin"])


def _train_item_to_item(fn_args: FnArgs) -> None:
    """Leaves the directory empty where no click follows another in a session: there is nothing to learn."""
    config = TypeAdapter(ItemToItemConfig).validate_python(fn_args.custom_config[ITEM_CONFIG])
    transform_output = TFTransformOutput(fn_args.transform_output)
    try:
        result = train_and_evaluate(
            config, fn_args.train_files, fn_args.eval_files, transform_output, log_dir=fn_args.model_run_dir
        )
    except NoPositivesError:
        logging.warning(
            "no click less than %d s after another: no item-to-item model; see "
            "item_to_item.session_gap_seconds",
            config.session_gap_seconds,
        )
        tf.io.gfile.makedirs(fn_args.serving_model_dir)
        return
    export_item_towers(result.model, transform_output, fn_args.serving_model_dir)

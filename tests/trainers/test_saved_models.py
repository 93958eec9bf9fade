"""What was loaded is saved as if it were new, however often."""

from itertools import pairwise

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from trainers.saved_models import save_signatures


def count_functions(path):
    message = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    return len(message.meta_graphs[0].graph_def.library.function)


def test_a_table_that_is_loaded_and_saved_again_answers_alike_and_grows_no_functions(tmp_path):
    words = tmp_path / "words"
    words.write_text("a\nb\nc\n")
    initializer = tf.lookup.TextFileInitializer(
        str(words),
        *(tf.string, tf.lookup.TextFileIndex.WHOLE_LINE),
        *(tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER),
    )
    module = tf.Module()
    module.table = tf.lookup.StaticHashTable(initializer, default_value=-1)
    find = tf.function(lambda word: {"row": module.table.lookup(word)})
    signatures = {"find": find.get_concrete_function(tf.TensorSpec([None], tf.string, "word"))}
    save_signatures(module, str(tmp_path / "0"), signatures)
    words.unlink()  # a SavedModel has its own
    counts = []
    for generation in range(1, 4):
        holder = tf.Module()
        holder.loaded = tf.saved_model.load(str(tmp_path / str(generation - 1)))
        save_signatures(holder, str(tmp_path / str(generation)), holder.loaded.signatures)
        counts.append(count_functions(tmp_path / str(generation)))
    # One for the signature, which is wrapped once more each time; none for the table.
    assert [after - before for before, after in pairwise(counts)] == [1, 1]
    last = tf.saved_model.load(str(tmp_path / "3"))
    rows = last.signatures["find"](word=tf.constant(["c", "a", "d"]))["row"]
    assert rows.numpy().tolist() == [2, 0, -1]

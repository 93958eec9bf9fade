"""Training steps of other packages' models, each in a process of its own, in an environment of its own.

Run by `peer_processes`, by its path: of Winnow nothing is imported, and a peer's packages where it is built.
A line on stdin asks for a round; a line of JSON on stdout is the answer, and the first says what was built.

Each peer is given the sizes of `data.Sizes`, the ids of `data.make_columns`, Adam, and its own package's
losses; what cannot be made the same is said in `Peer.differs`.
"""

import dataclasses
import functools
import importlib.metadata
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Step = Callable[[int], Any]  # trains on a batch, by its number
Columns = Mapping[str, np.ndarray]
ADAM_RATE = 1e-3
# What an environment is made with; FuxiCTR and RecBole need different versions of Ray.
ENVIRONMENTS = (
    "torch==2.13.0 torch-rechub==0.9.0 fuxictr==2.3.10 deepctr-torch==0.3.0 deepctr==0.9.4 "
    "tensorflow-cpu==2.21.0 tf-keras==2.21.0",
    "torch==2.13.0 recbole==1.2.1",
)


@dataclasses.dataclass(frozen=True)
class Peer:
    """A model of another package.

    Attributes:
      module: to import; missing where the package is.
      packages: distributions whose versions are told.
      build: makes the model, of sizes and columns.
      differs: from what ours computes.
      attention: the form of ours that is like it.
      auxiliary: whether it has an auxiliary loss.
      is_dien: false for a control.
    """

    module: str
    packages: tuple[str, ...]
    build: Callable[[Mapping[str, Any], Columns], Step]
    differs: str
    attention: str = "mlp"
    auxiliary: bool = False
    is_dien: bool = True


def load(path: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Sizes and columns of `data.save`."""
    with np.load(path) as file:
        columns = {name: file[name] for name in file.files}
    return json.loads(str(columns.pop("sizes"))), columns


def time_steps(step: Step, steps: int) -> dict[str, float]:
    """What a step takes, the mean of one on each batch; after one that is not timed.

    Returns:
      `seconds` by the clock, and `processor_seconds` of all threads together.
    """
    step(0)
    start, processor_start = time.perf_counter(), time.process_time()
    for number in range(steps):
        step(number)
    seconds, processor_seconds = time.perf_counter() - start, time.process_time() - processor_start
    return {"seconds": seconds / steps, "processor_seconds": processor_seconds / steps}


def _to_torch(columns: Columns) -> dict[str, Any]:
    import torch

    return {name: torch.from_numpy(values) for name, values in columns.items()}


def _build_torch_rechub(
    sizes: Mapping[str, Any], columns: Columns, *, auxiliary: bool, ids_alone: bool = False
) -> Step:
    import torch
    from torch_rechub.basic.features import SequenceFeature, SparseFeature
    from torch_rechub.models.ranking import DIEN

    dim = sizes["units"] if ids_alone else sizes["embedding_dim"]
    tables = {"item": sizes["items"]} if ids_alone else _item_tables(sizes)

    def make_sequences(prefix: str) -> list[Any]:
        return [
            SequenceFeature(f"{prefix}_{name}", size, dim, pooling="concat", shared_with=name, padding_idx=0)
            for name, size in tables.items()
        ]

    model = DIEN(
        [SparseFeature("user", sizes["users"], embed_dim=sizes["embedding_dim"])],
        make_sequences("history"),
        make_sequences("negative"),
        [SparseFeature(name, size, embed_dim=dim, padding_idx=0) for name, size in tables.items()],
        {"dims": sizes["head_dims"]},
        alpha=1.0,
    )
    if not auxiliary:  # it has no option for that
        model.auxiliary = lambda *_: 0.0
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=ADAM_RATE)
    label_loss = torch.nn.BCELoss()
    tensors = _to_torch(columns)

    def step(number: int) -> None:
        batch = {name: values[number] for name, values in tensors.items() if name != "item_categories"}
        predicted, auxiliary_loss = model(batch)
        loss = label_loss(predicted, batch["clicked"]) + auxiliary_loss
        model.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def _item_tables(sizes: Mapping[str, Any]) -> dict[str, int]:
    return {"item": sizes["items"], "category": sizes["categories"]}


def _build_fuxictr(sizes: Mapping[str, Any], columns: Columns) -> Step:
    import torch
    from fuxictr.features import FeatureMap
    from model_zoo.LongCTR.DIEN.DIEN import DIEN

    features = FeatureMap("winnow", data_dir="")
    features.labels, features.default_emb_dim = ["clicked"], sizes["embedding_dim"]
    for name, size in {"user": sizes["users"], **_item_tables(sizes)}.items():
        source = "user" if name == "user" else "item"
        features.features[name] = {"source": source, "type": "categorical", "vocab_size": size}
    model = DIEN(
        features,
        dnn_hidden_units=sizes["head_dims"],
        dnn_activations="Dice",
        learning_rate=ADAM_RATE,
        embedding_dim=sizes["embedding_dim"],
        batch_norm=False,
        gru_type="AUGRU",
        attention_type="din_attention",
        attention_hidden_units=sizes["attention_dims"],
        attention_activation="ReLU",
        optimizer="adam",
        loss="binary_crossentropy",
        verbose=0,
        model_root="",
        metrics=[],
    )
    # What its `fit` sets before the first step
    model._max_gradient_norm, model._batch_index = 10.0, 0
    model.train()
    tensors = _to_torch(columns)
    mask = torch.ones(sizes["rows"], sizes["history"])
    # A row's history with the item itself at the end, as its data loader gives them
    items = {
        name: torch.cat([tensors[f"history_{name}"], tensors[name][:, :, None]], dim=2).flatten(1)
        for name in _item_tables(sizes)
    }

    def step(number: int) -> None:
        row = {name: tensors[name][number] for name in ("user", "clicked")}
        model.train_step((row, {name: values[number] for name, values in items.items()}, mask))

    return step


def _deepctr_columns(sizes: Mapping[str, Any], inputs: Any, prefixes: tuple[str, ...]) -> list[Any]:
    """Feature columns of DeepCTR, and of DeepCTR-Torch; `inputs` is the module that has their classes."""
    dim = sizes["embedding_dim"]
    columns = [
        inputs.SparseFeat(name, size, dim)
        for name, size in {"user": sizes["users"], **_item_tables(sizes)}.items()
    ]
    for prefix in prefixes:
        for name, size in _item_tables(sizes).items():
            sequence = inputs.SparseFeat(f"{prefix}hist_{name}", size, dim, embedding_name=name)
            columns.append(
                inputs.VarLenSparseFeat(sequence, maxlen=sizes["history"], length_name="seq_length")
            )
    return columns


def _deepctr_inputs(columns: Columns) -> dict[str, np.ndarray]:
    """By the names of `_deepctr_columns`, each [steps, rows] or [steps, rows, history]."""
    named = {name: columns[name] for name in ("user", "item", "category")}
    for name in ("item", "category"):
        named[f"hist_{name}"] = columns[f"history_{name}"]
        named[f"neg_hist_{name}"] = columns[f"negative_{name}"]
    return {**named, "seq_length": np.full(named["user"].shape, named["hist_item"].shape[2])}


def _build_deepctr_torch(sizes: Mapping[str, Any], columns: Columns, *, auxiliary: bool) -> Step:
    import torch
    from deepctr_torch import inputs
    from deepctr_torch.models import DIEN

    model = DIEN(
        _deepctr_columns(sizes, inputs, ("", "neg_") if auxiliary else ("",)),
        ["item", "category"],
        gru_type="AUGRU",
        use_negsampling=auxiliary,
        dnn_hidden_units=sizes["head_dims"],
        dnn_activation="prelu",
        att_hidden_units=sizes["attention_dims"],
        l2_reg_embedding=0,
    )
    model.compile(torch.optim.Adam(model.parameters(), lr=ADAM_RATE), "binary_crossentropy", metrics=[])
    model.train()
    named = _deepctr_inputs(columns)
    parts = [named[name].reshape(*named["user"].shape, -1) for name in model.feature_index]
    rows = torch.from_numpy(np.concatenate(parts, axis=2)).float()
    labels = torch.from_numpy(columns["clicked"])

    def step(number: int) -> None:  # as in its `fit`
        predicted = model(rows[number]).squeeze(-1)
        model.optim.zero_grad()
        loss = model.loss_func(predicted, labels[number], reduction="sum")
        (loss + model.get_regularization_loss() + model.aux_loss).backward()
        model.optim.step()

    return step


def _build_recbole(sizes: Mapping[str, Any], columns: Columns) -> Step:
    import torch
    from recbole.data.interaction import Interaction
    from recbole.model.sequential_recommender import DIEN
    from recbole.utils import FeatureType

    # One of its modules turns this on for all when it is imported; it takes half of a step.
    torch.autograd.set_detect_anomaly(False)
    tables = {"user_id": sizes["users"], "item_id": sizes["items"], "category": sizes["categories"]}
    tensors = _to_torch(columns)

    class Dataset:
        """What the model asks of RecBole's own."""

        config: Mapping[str, Any] = {"numerical_features": []}
        field2type = dict.fromkeys(tables, FeatureType.TOKEN)

        def num(self, field: str) -> int:
            return tables[field]

        def get_user_feature(self) -> Any:
            return Interaction({"user_id": torch.arange(sizes["users"])})

        def get_item_feature(self) -> Any:
            ids = torch.arange(sizes["items"])
            return Interaction({"item_id": ids, "category": tensors["item_categories"]})

    config = {
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": "item_id",
        "LABEL_FIELD": "label",
        "NEG_PREFIX": "neg_",
        "LIST_SUFFIX": "_list",
        "ITEM_LIST_LENGTH_FIELD": "item_length",
        "MAX_ITEM_LIST_LENGTH": sizes["history"],
        "device": torch.device("cpu"),
        "alpha": 1.0,
        "gru_type": "AUGRU",
        "pooling_mode": "mean",
        "dropout_prob": 0.0,
        "embedding_size": sizes["embedding_dim"],
        "mlp_hidden_size": sizes["attention_dims"],
        "numerical_features": [],
    }
    model = DIEN(config, Dataset())
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=ADAM_RATE)
    names = {
        "user_id": "user",
        "item_id": "item",
        "item_id_list": "history_item",
        "neg_item_id_list": "negative_item",
        "label": "clicked",
    }
    lengths = torch.full((sizes["rows"],), sizes["history"])

    def step(number: int) -> None:
        batch = {field: tensors[name][number] for field, name in names.items()}
        optimizer.zero_grad()
        model.calculate_loss(Interaction({**batch, "item_length": lengths})).backward()
        optimizer.step()

    return step


def _build_deepctr_din(sizes: Mapping[str, Any], columns: Columns) -> Step:
    os.environ["TF_USE_LEGACY_KERAS"] = "1"  # it is written for Keras 2
    import tensorflow as tf
    from deepctr import feature_column
    from deepctr.models import DIN

    model = DIN(
        _deepctr_columns(sizes, feature_column, ("",)),
        ["item", "category"],
        dnn_hidden_units=sizes["head_dims"],
        dnn_activation="dice",
        att_hidden_size=sizes["attention_dims"],
        att_activation="relu",
        att_weight_normalization=True,
        l2_reg_embedding=0,
    )
    model.compile(tf.keras.optimizers.Adam(ADAM_RATE), "binary_crossentropy")
    named = _deepctr_inputs(columns)
    batches = [
        ([tf.constant(named[name][number]) for name in model.input_names], tf.constant(labels))
        for number, labels in enumerate(columns["clicked"])
    ]
    train = tf.function(lambda rows, labels: model.train_step((rows, labels)))
    return lambda number: train(*batches[number])["loss"].numpy()


_TORCH_RECHUB = ("torch", "torch-rechub")
_DEEPCTR_TORCH = ("torch", "deepctr-torch")
_IN_TWO = "bilinear attention; a recurrence of 18 for each column, not one of 36 for both"
_IN_ONE = "bilinear attention; item ids alone, their embedding 36, no category"
_PRELU = "PReLU in the head: its Dice takes sequences alone"

PEERS = {
    "torch-rechub dien": Peer(
        "torch_rechub",
        _TORCH_RECHUB,
        functools.partial(_build_torch_rechub, auxiliary=False),
        _IN_TWO,
        attention="bilinear",
    ),
    "torch-rechub dien+aux": Peer(
        "torch_rechub",
        _TORCH_RECHUB,
        functools.partial(_build_torch_rechub, auxiliary=True),
        _IN_TWO,
        attention="bilinear",
        auxiliary=True,
    ),
    "torch-rechub ids dien": Peer(
        "torch_rechub",
        _TORCH_RECHUB,
        functools.partial(_build_torch_rechub, auxiliary=False, ids_alone=True),
        _IN_ONE,
        attention="bilinear",
    ),
    "torch-rechub ids dien+aux": Peer(
        "torch_rechub",
        _TORCH_RECHUB,
        functools.partial(_build_torch_rechub, auxiliary=True, ids_alone=True),
        _IN_ONE,
        attention="bilinear",
        auxiliary=True,
    ),
    "fuxictr dien": Peer(
        "fuxictr",
        ("torch", "fuxictr"),
        _build_fuxictr,
        "the packaged model has no auxiliary loss; clips gradients",
    ),
    "deepctr-torch dien": Peer(
        "deepctr_torch",
        _DEEPCTR_TORCH,
        functools.partial(_build_deepctr_torch, auxiliary=False),
        _PRELU,
    ),
    "deepctr-torch dien+aux": Peer(
        "deepctr_torch",
        _DEEPCTR_TORCH,
        functools.partial(_build_deepctr_torch, auxiliary=True),
        f"{_PRELU}; the auxiliary loss of an MLP (100-50) on interest and event, not of their product",
        auxiliary=True,
    ),
    "recbole dien+aux": Peer(
        "recbole",
        ("torch", "recbole"),
        _build_recbole,
        "one list of widths for all its MLPs: 80-40 in the head and the auxiliary loss too, which is an MLP "
        "on interest and event and cannot be left out",
        auxiliary=True,
    ),
    "deepctr din": Peer(
        "deepctr",
        ("tensorflow", "deepctr"),
        _build_deepctr_din,
        "a control: its DIEN does not run on TensorFlow 2.16 or later",
        is_dien=False,
    ),
}


def main(name: str, path: str, threads: str) -> None:
    """Builds a peer and times a round for each line that is read.

    Args:
      name: of `PEERS`.
      path: see `load`.
      threads: of the processor that it may use.
    """
    # Some packages print when they are imported: their stdout is stderr.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    peer = PEERS[name]
    if importlib.util.find_spec(peer.module) is None:
        print(json.dumps({"missing": peer.module}), file=answers)
        return
    # OpenMP's count is read when torch is imported. TensorFlow takes all that the process may use.
    os.environ["OMP_NUM_THREADS"] = threads
    sizes, columns = load(path)
    step = peer.build(sizes, columns)
    time_steps(step, 1)
    versions = {package: importlib.metadata.version(package) for package in peer.packages}
    print(json.dumps({"versions": versions}), file=answers)
    for _ in sys.stdin:
        print(json.dumps(time_steps(step, sizes["steps"])), file=answers)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The named forms of layers. TensorFlow is not imported here: a bad file is refused at once."""

from typing import Literal

# How much an event says of a candidate, see `history_attention.HistoryAttention`
AttentionForm = Literal["bilinear", "inner_product", "mlp"]
# How a state follows another, see `gated_recurrence.GatedRecurrence`
Update = Literal["gru", "agru", "augru", "augru_official"]
# How interests lead to a candidate, see `interest_evolution.InterestEvolution`
Evolution = Literal["gru", "aigru", "agru", "augru", "augru_official"]

"""Training where the machine has too little memory."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from emo_nb.encode import TextDataset
from emo_nb.model import find_encoder, new_classifier, tokenizer_of, with_layers
from emo_nb.train import TrainSettings, fit

OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")


@pytest.mark.skipif(
    not OVERCOMMIT.exists() or OVERCOMMIT.read_text().strip() == "1", reason="this system refuses no memory"
)
def test_where_memory_runs_out_a_batch_is_halved_which_is_said_once_and_the_same_is_learnt(tmp_path, caplog):
    minilm = find_encoder("minilm")
    tokenizer = tokenizer_of(minilm, max_length=64)
    texts = [f"so it goes {i} " * (1 + i % 3) for i in range(96)]
    rows, dev = (TextDataset(texts[:n], tokenizer, np.arange(n) % 2) for n in (96, 2))
    settings = TrainSettings(epochs=1, batch_size=32, warmup=0, averaging=None, progress=False)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    def learnt(bytes_a_text):
        def loss(outputs, labels, num_items_in_batch=None):
            torch.empty(len(labels) * bytes_a_text, dtype=torch.uint8)  # refused where there is not as much
            return torch.nn.functional.cross_entropy(outputs.logits, labels)

        model = with_layers(new_classifier(minilm, ["fear", "joy"], "minilm"))
        fit(model, tokenizer, rows, dev, tmp_path / str(bytes_a_text), settings, loss)
        return model.classifier.weight.detach()

    enough = learnt(1)
    assert "memory" not in caplog.text
    little = learnt(memory // 12)
    assert caplog.text.count("batches are halved") == 1
    assert float((little - enough).norm() / enough.norm()) < 0.05

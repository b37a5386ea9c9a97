"""A tokenizer and the model that it belongs to: how long a text may be, and what fills batches up."""

import math
from pathlib import Path
from typing import Any

from ..core import ModelError, warn_once

_NO_LIMIT = 10**9  # tokens; transformers writes 1e30 where a tokenizer knows none

# Architectures whose position ids begin at 0; the others' begin after the padding token's id.
_POSITIONS_FROM_ZERO = ("bert", "distilbert", "electra", "albert", "mobilebert", "deberta", "deberta-v2", "modernbert")


def is_decoder(config: Any) -> bool:
    "Whether a token sees only those before it, so that the last one has read the text."
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as causal
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as masked

    return config.model_type in causal and config.model_type not in masked


def padding_token(tokenizer: Any, folder: Path) -> str:
    """A token of the tokenizer to fill batches up with, of a decoder, which reads the last token that is another one.

    It should therefore not be one that the tokenizer ends a text with; where there is no other, a warning says so.
    Raises `ModelError` where the tokenizer has no special token at all.
    """
    ids = tokenizer("a")["input_ids"]
    known = (tokenizer.pad_token, tokenizer.eos_token, tokenizer.unk_token, *tokenizer.all_special_tokens)
    tokens = [str(token) for token in known if token is not None]
    if not tokens:
        raise ModelError(f"{folder}: its tokenizer has no token to fill batches up with (pad_token); set one")
    if free := [token for token in tokens if tokenizer.convert_tokens_to_ids(token) not in ids]:
        return free[0]
    warn_once(f"{folder}: {tokens[0]!r} ends each text and fills batches up as well; the token before it is read")
    return tokens[0]


def check_tokenizer(tokenizer: Any, config: Any, folder: Path) -> None:
    """Limit the tokenizer's maximal length to the model's number of positions, or to 512 where neither has a limit.

    Raises `ModelError` where tokenizer and model do not belong together.
    """
    longest, vocabulary = tokenizer.model_max_length, config.vocab_size
    if isinstance(longest, bool) or not isinstance(longest, (int, float)) or not 4 <= longest < math.inf:
        raise ModelError(
            f"{folder}: the tokenizer's model_max_length {longest!r} leaves no room for a text; correct it"
        )
    if (last := max(tokenizer.get_vocab().values(), default=-1)) >= vocabulary:
        raise ModelError(
            f"{folder}: the tokenizer numbers its tokens up to {last}, but config.json gives the model {vocabulary}; "
            "get the tokenizer that belongs to the model"
        )
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:  # XLNet, which has no limit, says -1
        from_zero = config.model_type in _POSITIONS_FROM_ZERO or is_decoder(config)
        longest = min(longest, positions - (0 if from_zero else (config.pad_token_id or 0) + 1))
        if longest < 4:
            raise ModelError(
                f"{folder}: config.json gives the model {positions} positions, too few for a text; use another"
            )
    tokenizer.model_max_length = longest if longest < _NO_LIMIT else 512

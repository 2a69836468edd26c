"""One processor for ConceptCLIP's two inputs: images and prompts."""

import copy
from typing import Any

from transformers import PreTrainedTokenizerBase, ProcessorMixin

from .image_processing_conceptclip import ConceptCLIPImageProcessor

MAX_LENGTH = 77  # token positions of a prompt in ConceptCLIP's training, [CLS] and [SEP] included


class ConceptCLIPProcessor(ProcessorMixin):
    """
    Turns images and prompts into what [`ConceptCLIPModel`] takes. See [`ConceptCLIPImageProcessor`] for the images.

    With `truncation=True` prompts are cut at 77 tokens. The released tokenizer sets no length of its own, so that
    `truncation=True` alone would cut nothing; the processor's tokenizer knows the length.

    Args:
        image_processor (`ConceptCLIPImageProcessor`)
        tokenizer (`PreTrainedTokenizerBase`): a WordPiece tokenizer. One with a longer or no maximum length is copied.

    Example:

    ```python
    >>> inputs = processor(images=images, text=prompts, return_tensors="pt", padding=True, truncation=True)
    >>> sorted(inputs)
    ['attention_mask', 'input_ids', 'pixel_values', 'token_type_ids']
    >>> float_images = processor(images=tensor, return_tensors="pt", do_rescale=False)  # (B, 3, H, W) in [0, 1]
    >>> x_rays = processor(images=sixteen_bit, return_tensors="pt", window=(0, 4095))
    ```
    """

    def __init__(self, image_processor: ConceptCLIPImageProcessor, tokenizer: PreTrainedTokenizerBase):
        if tokenizer.model_max_length > MAX_LENGTH:
            tokenizer = copy.deepcopy(tokenizer)
            tokenizer.model_max_length = MAX_LENGTH
        super().__init__(image_processor, tokenizer)

    @classmethod
    def _get_arguments_from_pretrained(cls, pretrained_model_name_or_path, processor_dict=None, **kwargs: Any) -> list:
        # Whatever image processor a checkpoint names, ours reads its settings: the same geometry, without the pitfalls.
        tokenizer_kwargs = {key: value for key, value in kwargs.items() if key not in ("subfolder", "_from_auto")}
        return [
            ConceptCLIPImageProcessor.from_pretrained(pretrained_model_name_or_path, **kwargs),
            cls._load_tokenizer_from_pretrained(
                "tokenizer", pretrained_model_name_or_path, kwargs.get("subfolder", ""), **tokenizer_kwargs
            ),
        ]

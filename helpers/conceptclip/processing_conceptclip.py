"""One processor for ConceptCLIP's two inputs: images and prompts."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from transformers import BatchFeature, PreTrainedTokenizerBase, ProcessorMixin

from .image_processing_conceptclip import ConceptCLIPImageProcessor

MAX_LENGTH = 77  # token positions of a prompt in ConceptCLIP's training, [CLS] and [SEP] included


def text_list(texts: Any, name: str) -> list:
    """A list of what any sequence of texts holds. What has no order or holds more than texts is a TypeError."""
    flat = getattr(texts, "ndim", 1) == 1
    if isinstance(texts, (bytes, Mapping, set, frozenset)) or not isinstance(texts, Iterable) or not flat:
        raise TypeError(
            f"{name} is a {type(texts).__name__}, of which it is not clear what the prompts are, or in which order. "
            "Pass one string, or a list of them."
        )
    return list(texts)


def check_prompt(text: Any, name: str) -> None:
    """Refuses what the tokenizer cannot read: no text, or one with bytes in it that are no text."""
    if not isinstance(text, str):
        raise ValueError(f"{name} is {text!r}, a {type(text).__name__}, not a string. Leave it out or write a phrase.")
    if not text.isascii() and text != text.encode("utf-8", "replace").decode("utf-8"):
        raise ValueError(
            f"{name}, {text!r}, holds bytes that are no UTF-8, as names of files may. Write it in letters."
        )


def _prompts(text: Any) -> str | list[str] | None:
    """One string or a list of strings: what the tokenizer takes. It would read a tuple as a pair of texts."""
    if text is None:
        return None
    if isinstance(text, str):
        check_prompt(text, "text")
        return text
    prompts = text_list(text, "text")
    if not prompts:
        raise ValueError("There are no prompts: text is empty. Pass at least one, or leave `text` out.")
    for number, prompt in enumerate(prompts):
        check_prompt(prompt, f"text[{number}]")
    return [str(prompt) for prompt in prompts]


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

    def __call__(self, images: Any = None, text: Any = None, **kwargs: Any) -> BatchFeature:
        """
        See the class; the arguments of transformers' processors.

        `text` is one prompt, or any sequence of them: a list, a tuple, a pandas Series or a numpy array.

        Raises:
            ValueError: no prompts, or a prompt that is no string, named by its number.
        """
        return super().__call__(images=images, text=_prompts(text), **kwargs)

    @classmethod
    def _get_arguments_from_pretrained(
        cls, pretrained_model_name_or_path: Any, processor_dict: Any = None, **kwargs: Any
    ) -> list[Any]:
        # Whatever image processor a checkpoint names, ours reads its settings: the same geometry, without the pitfalls.
        tokenizer_kwargs = {key: value for key, value in kwargs.items() if key not in ("subfolder", "_from_auto")}
        return [
            ConceptCLIPImageProcessor.from_pretrained(pretrained_model_name_or_path, **kwargs),
            cls._load_tokenizer_from_pretrained(
                "tokenizer", pretrained_model_name_or_path, kwargs.get("subfolder", ""), **tokenizer_kwargs
            ),
        ]

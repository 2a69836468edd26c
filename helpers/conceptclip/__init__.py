"""ConceptCLIP in transformers' shape: configuration, model, processor, the way in from the released weights.

Importing this package registers the classes with `AutoConfig`, `AutoModel`, `AutoImageProcessor` and `AutoProcessor`,
so that a checkpoint of `model_type` "conceptclip" loads through this code, also with `trust_remote_code=True`: nothing
that was downloaded is executed. `pipeline("zero-shot-image-classification", model=…)` takes it, too.
"""

from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForZeroShotImageClassification,
    AutoProcessor,
)

from .configuration_conceptclip import ConceptCLIPConfig
from .image_processing_conceptclip import ConceptCLIPImageProcessor
from .modeling_conceptclip import ConceptCLIPModel, ConceptCLIPOutput
from .processing_conceptclip import ConceptCLIPProcessor

__all__ = [
    "ConceptCLIPConfig",
    "ConceptCLIPImageProcessor",
    "ConceptCLIPModel",
    "ConceptCLIPOutput",
    "ConceptCLIPProcessor",
]

AutoConfig.register(ConceptCLIPConfig.model_type, ConceptCLIPConfig, exist_ok=True)
AutoModel.register(ConceptCLIPConfig, ConceptCLIPModel, exist_ok=True)
AutoModelForZeroShotImageClassification.register(ConceptCLIPConfig, ConceptCLIPModel, exist_ok=True)
AutoImageProcessor.register(
    ConceptCLIPConfig,
    image_processor_classes={"pil": ConceptCLIPImageProcessor, "torchvision": ConceptCLIPImageProcessor},
    exist_ok=True,
)
AutoProcessor.register(ConceptCLIPConfig, ConceptCLIPProcessor, exist_ok=True)

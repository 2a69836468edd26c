"""ConceptCLIP in transformers' own shape: configuration, model, processor, and the way in from the released checkpoint.

Importing this package registers the classes with `AutoConfig` and `AutoModel`, so that a checkpoint of
`model_type` "conceptclip" loads through this code, also with `trust_remote_code=True`: nothing downloaded is executed.
"""

from transformers import AutoConfig, AutoModel

from .configuration_conceptclip import ConceptCLIPConfig
from .modeling_conceptclip import ConceptCLIPModel, ConceptCLIPOutput

__all__ = ["ConceptCLIPConfig", "ConceptCLIPModel", "ConceptCLIPOutput"]

AutoConfig.register(ConceptCLIPConfig.model_type, ConceptCLIPConfig, exist_ok=True)
AutoModel.register(ConceptCLIPConfig, ConceptCLIPModel, exist_ok=True)

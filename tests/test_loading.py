"""`helpers.load`: where it looks, what it chooses, and what it says when something is in the way."""

import json
import shutil
import traceback
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants
from huggingface_hub import errors as hub_errors
from huggingface_hub.utils import _http as hub_http
from small_model import make_model, make_processor, make_tokenizer
from test_conceptclip_released import CODE, write_with_code
from transformers.utils import logging as transformers_logging

import helpers
from helpers import loading
from helpers.conceptclip import ConceptCLIPImageProcessor, ConceptCLIPModel, ConceptCLIPProcessor

httpx = hub_http.httpx2 if hasattr(hub_http, "httpx2") else hub_http.httpx
REPOSITORY = "JerrryNie/ConceptCLIP"
SECRET = "hf_" + "0" * 30 + "SECRET"


@pytest.fixture
def folder(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model, to be damaged."""
    return Path(shutil.copytree(tiny_model_folder, tmp_path / "model"))


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONCEPTCLIP_MODEL", raising=False)


# -- sources


@pytest.mark.usefixtures("no_network")
def test_a_folder(tiny_model_folder):
    for source in (tiny_model_folder, str(tiny_model_folder)):
        model, processor = helpers.load(source, device="cpu")
        assert type(model) is ConceptCLIPModel
        assert type(processor) is ConceptCLIPProcessor
        assert (model.training, model.dtype, model.device.type) == (False, torch.float32, "cpu")


@pytest.mark.usefixtures("no_network")
def test_the_environment_and_then_the_shipped_model(tiny_model_folder, monkeypatch, tmp_path):
    monkeypatch.setattr(loading, "MODEL_ID", str(tmp_path))
    monkeypatch.setenv("CONCEPTCLIP_MODEL", str(tiny_model_folder))
    assert helpers.load()[0].config.projection_dim == 64
    monkeypatch.delenv("CONCEPTCLIP_MODEL")
    monkeypatch.setattr(loading, "MODEL_ID", str(tiny_model_folder))
    assert helpers.load()[0].config.projection_dim == 64


def test_the_shipped_models_place_is_computed():
    assert Path(helpers.MODEL_ID) == Path(helpers.__file__).resolve().parents[1] / "data" / "conceptclip-mini"
    assert isinstance(helpers.MODEL_ID, str)


@pytest.mark.usefixtures("no_network")
def test_loading_is_quiet_unless_asked(tiny_model_folder, capfd):
    transformers_logging.enable_progress_bar()
    helpers.load(tiny_model_folder)
    assert capfd.readouterr() == ("", "")
    assert transformers_logging.is_progress_bar_enabled()
    helpers.load(tiny_model_folder, progress=True)
    assert "Loading weights" in capfd.readouterr().err


# -- device and dtype


def test_devices_in_order(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert loading.pick_device().type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert loading.pick_device().type == "mps"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert loading.pick_device().type == "cpu"
    assert loading.pick_device("cpu") == loading.pick_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize("device", ["gpu", "cuda:99", torch.device("cuda", 98)])
def test_a_device_that_is_not_here_is_refused_before_anything_is_read(device):
    with pytest.raises(ValueError, match=f"device.*'{device}'.*helpers.doctor"):
        helpers.load("no/such/folder", device=device)


def test_dtypes(monkeypatch, tiny_model_folder):
    config = make_model().config
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert loading.pick_dtype("auto", cpu, config) == torch.float32
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert loading.pick_dtype("auto", cuda, config) == torch.bfloat16
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert loading.pick_dtype("auto", cuda, config) == torch.float32
    assert loading.pick_dtype("float16", cpu, config) == loading.pick_dtype(torch.float16, cpu, config) == torch.float16
    with pytest.raises(ValueError, match=r"dtype.*'int4'"):
        loading.pick_dtype("int4", cpu, config)
    assert helpers.load(tiny_model_folder, device="cpu", dtype="bfloat16")[0].dtype == torch.bfloat16


def test_the_fastest_dtype_is_measured(monkeypatch, tiny_model_folder):
    config = make_model().config
    assert helpers.loading.fastest_dtype(config) in (torch.float32, torch.bfloat16)
    # A clock by which bfloat16 takes a tenth of the time, except while it warms up; it is read before and after.
    steps = [1.0, 9.0] + [1.0, 0.1] * 3
    ticks = iter([tick for step in steps for tick in (0.0, step)])
    monkeypatch.setattr(loading.time, "perf_counter", lambda: next(ticks))
    assert helpers.loading.fastest_dtype(config) == torch.bfloat16
    assert config.vision_config.num_hidden_layers == 2  # measured on a copy
    monkeypatch.setattr(loading, "fastest_dtype", lambda config, device: torch.bfloat16)
    assert helpers.load(tiny_model_folder, device="cpu", dtype="fastest")[0].dtype == torch.bfloat16


# -- folders with something missing


def test_no_such_folder(tmp_path):
    for source in (tmp_path / "nowhere", "./nowhere", "nowhere", "a/b/c", "~/nowhere/here"):
        with pytest.raises(FileNotFoundError, match=r"nowhere|a/b/c"):
            helpers.load(source)


def test_the_shipped_model_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(loading, "MODEL_ID", str(tmp_path / "data" / "conceptclip-mini"))
    with pytest.raises(FileNotFoundError, match=r"data/conceptclip-mini.*pip install -e \."):
        helpers.load()


def test_no_config(folder):
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        helpers.load(folder)


def test_no_weights(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        helpers.load(folder)


def test_pickled_weights_only(folder):
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin.*save_file"):
        helpers.load(folder)


def test_no_tokenizer(folder):
    (folder / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json"):
        helpers.load(folder)


def test_no_settings_of_the_image_processor(folder):
    """They may stand in either file, as on the model's page."""
    settings = json.loads((folder / "processor_config.json").read_text())
    (folder / "processor_config.json").write_text(json.dumps({"processor_class": "ConceptCLIPProcessor"}))
    missing = r"preprocessor_config\.json.* processor_config\.json"
    with pytest.raises(FileNotFoundError, match=missing):
        helpers.load(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(settings["image_processor"]))
    assert helpers.load(folder, device="cpu")[1].image_processor.size.height == 56
    (folder / "processor_config.json").unlink()
    assert helpers.load(folder, device="cpu")[1].image_processor.size.height == 56
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(FileNotFoundError, match=missing):
        helpers.load(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "processor_config.json"])
@pytest.mark.parametrize(
    ("content", "named"),
    [(None, "JSON"), (b'{"a": "\xff"}', "JSON"), (b"[]", "list")],
    ids=["cut", "not UTF-8", "a list"],
)
def test_settings_that_cannot_be_read_are_named(folder, name, content, named):
    path = folder / name
    path.write_bytes(path.read_bytes()[:100] if content is None else content)
    with pytest.raises(ValueError, match=rf"^{name} of {folder} .*{named}"):
        helpers.load(folder)


def test_a_tokenizer_of_no_known_form(folder):
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=rf"{folder}.*tokenizer"):
        helpers.load(folder)


def test_an_incomplete_file(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match=rf"{folder}.*git lfs pull"):
        helpers.load(folder)
    weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ValueError, match=rf"{folder}.*git lfs pull"):
        helpers.load(folder)


@pytest.mark.parametrize("settings", [{"model_type": "clip"}, {"model_type": "siglip"}, {}])
def test_another_architecture(folder, settings):
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=f"model_type {settings.get('model_type')!r}"):
        helpers.load(folder)


def test_weights_of_another_architecture(folder):
    from safetensors.torch import save_file

    save_file({"text_model.head.weight": torch.zeros(3)}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"text_model\.head\.weight"):
        helpers.load(folder)


def test_a_broken_config(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json"):
        helpers.load(folder)


def test_the_processor_of_another_model(folder):
    make_processor(side=84).save_pretrained(folder)
    with pytest.raises(ValueError, match=r"84 × 84.*56 × 56"):
        helpers.load(folder)
    bigger = ConceptCLIPProcessor(
        ConceptCLIPImageProcessor(size={"height": 56, "width": 56}), make_tokenizer(("leukocyte",))
    )
    bigger.save_pretrained(folder)
    with pytest.raises(ValueError, match=r"tokenizer_config\.json"):
        helpers.load(folder)


# -- the hub, simulated where the requests leave


class Hub:
    """Answers requests like the hub does; `answers` maps part of an address to a response."""

    def __init__(self) -> None:
        self.answers: dict[str, object] = {}
        self.asked: list[str] = []
        self.tokens: set[str | None] = set()

    def __call__(self, request):
        self.asked.append(f"{request.method} {request.url.path}")
        if REPOSITORY in request.url.path:
            self.tokens.add(request.headers.get("authorization"))
        for part, answer in self.answers.items():
            if part in request.url.path:
                if isinstance(answer, Exception):
                    raise answer
                return answer(request) if callable(answer) else answer
        return httpx.Response(404, headers={"X-Error-Code": "EntryNotFound"}, request=request)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    hub = Hub()
    huggingface_hub.set_client_factory(lambda: httpx.Client(transport=httpx.MockTransport(hub), follow_redirects=True))
    for name, place in (("HF_HUB_CACHE", "cache"), ("HF_TOKEN_PATH", "token"), ("HF_STORED_TOKENS_PATH", "tokens")):
        monkeypatch.setattr(constants, name, str(tmp_path / place))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # `make test` sets it
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    yield hub
    huggingface_hub.set_client_factory(hub_http.default_client_factory)


def refusal(status: int, code: str | None = None, message: str = ""):
    def answer(request):
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        return httpx.Response(status, headers=headers, request=request)

    return answer


COMMIT = "0123456789abcdef0123456789abcdef01234567"
RESTRICTED = f"Access to model {REPOSITORY} is restricted"


def publish(hub: Hub, folder: Path) -> None:
    """Let the hub serve a folder as the repository, open to everyone."""
    import hashlib

    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    tree = [
        {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
        for name, data in files.items()
    ]
    info = {"id": REPOSITORY, "modelId": REPOSITORY, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}

    def file(request):
        data = files[request.url.path.rsplit("/", 1)[-1]]
        headers = {
            "X-Repo-Commit": COMMIT,
            "ETag": f'"{hashlib.sha1(data).hexdigest()}"',
            "Content-Length": str(len(data)),
        }
        return httpx.Response(200, headers=headers, content=b"" if request.method == "HEAD" else data, request=request)

    hub.answers |= {
        "/resolve/": file,
        f"/api/models/{REPOSITORY}/tree": lambda request: httpx.Response(200, json=tree, request=request),
        f"/api/models/{REPOSITORY}": lambda request: httpx.Response(200, json=info, request=request),
    }


def message_of(source: str = REPOSITORY, **kwargs) -> tuple[type, str]:
    """The error's type and message; no token may show up in it or in what led to it."""
    with pytest.raises(Exception) as caught:
        helpers.load(source, **kwargs)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    return caught.type, str(caught.value)


def test_a_hub_id_is_downloaded_once_without_its_code(hub, tiny_model_folder, tmp_path, monkeypatch):
    shutil.copytree(tiny_model_folder, tmp_path / "published")
    (tmp_path / "published" / "modeling_conceptclip.py").write_text(CODE)
    (tmp_path / "published" / "pytorch_model.bin").write_bytes(b"0")
    publish(hub, tmp_path / "published")
    model, _ = helpers.load(REPOSITORY, token=SECRET)
    assert model.config.projection_dim == 64
    assert hub.tokens == {f"Bearer {SECRET}"}
    asked = " ".join(hub.asked)
    assert "model.safetensors" in asked
    assert "modeling_conceptclip.py" not in asked
    assert "pytorch_model.bin" not in asked
    # Without a network, the cache answers, by branch and by commit.
    hub.answers = {"/": httpx.ConnectError("no route")}
    for revision in (None, "main", COMMIT):
        assert helpers.load(REPOSITORY, revision=revision)[0].config.projection_dim == 64
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "is_offline_mode", lambda: True)
    assert helpers.load(REPOSITORY)[0].config.projection_dim == 64


def test_no_network_and_not_in_the_cache(hub):
    hub.answers = {"/": httpx.ConnectError("no route")}
    kind, message = message_of()
    assert kind is ConnectionError
    assert f"{REPOSITORY} is no folder here, it is not in the cache, and the hub cannot be reached" in message
    assert "load() without a source" in message
    assert "at revision v1" in message_of(revision="v1")[1]


def test_the_network_is_switched_off(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.answers = {"/": hub_errors.OfflineModeIsEnabled("the simulated hub stands where this would be raised")}
    kind, message = message_of()
    assert kind is ConnectionError
    assert "not in the cache, and HF_HUB_OFFLINE is set (`make run` and `make test` set it)" in message
    assert f"`HF_HUB_OFFLINE=0 CONCEPTCLIP_MODEL={REPOSITORY} make run`" in message
    assert "cannot be reached" not in message


def test_no_token(hub):
    hub.answers = {"/": refusal(401, "GatedRepo", f"{RESTRICTED}. You must have access to it and be authenticated")}
    kind, message = message_of()
    assert kind is PermissionError
    assert "is gated and no token was found" in message
    assert "hf auth login" in message
    assert f"/{REPOSITORY}" in message
    assert hub.tokens == {None}


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_a_token_that_is_not_accepted(hub, monkeypatch, how):
    hub.answers = {"/": refusal(401, None, "Invalid credentials in Authorization header")}
    if how == "environment":
        monkeypatch.setenv("HF_TOKEN", SECRET)
    kind, message = message_of(token=SECRET if how == "argument" else None)
    assert kind is PermissionError
    assert "does not accept the token" in message
    assert "expired or revoked" in message
    assert hub.tokens == {f"Bearer {SECRET}"}


def test_a_valid_token_whose_owner_has_not_accepted_the_terms(hub):
    """As on the hub: everybody may see that the model exists and list its files; its files are refused."""
    refused = refusal(403, "GatedRepo", f"{RESTRICTED} and you are not in the authorized list. Visit the page")
    info = {"id": REPOSITORY, "modelId": REPOSITORY, "sha": COMMIT, "siblings": []}
    tree = [{"type": "file", "path": "config.json", "size": 3, "oid": "0" * 40}]
    hub.answers = {
        "/resolve/": refused,
        "/tree/": lambda request: httpx.Response(200, json=tree, request=request),
        "/api/models/": lambda request: httpx.Response(200, json=info, request=request),
    }
    kind, message = message_of(token=SECRET)
    assert kind is PermissionError
    assert "The token is valid, but its owner has not been granted access" in message
    assert "accept the model's terms" in message
    assert f"/{REPOSITORY}" in message
    hub.answers = {"/": refused}
    assert message_of(token=SECRET) == (kind, message)


def test_a_fine_grained_token_without_the_right(hub):
    said = "Please enable access to public gated repositories in your fine-grained token settings"
    hub.answers = {"/": refusal(403, "GatedRepo", said)}
    kind, message = message_of(token=SECRET)
    assert kind is PermissionError
    assert "The token may not read gated models" in message


@pytest.mark.parametrize("token", [None, SECRET])
def test_no_such_model(hub, token):
    hub.answers = {"/": refusal(404 if token else 401, "RepoNotFound", "Repository not found")}
    kind, message = message_of("data/conceptclip-mimi", token=token)
    assert kind is loading.MissingFileError
    assert "data/conceptclip-mimi is neither a folder here nor a model that the hub shows" in message
    assert ("without a token" in message) is (token is None)


def test_no_such_revision(hub):
    hub.answers = {"/": refusal(404, "RevisionNotFound", "Invalid rev id: v9")}
    kind, message = message_of(revision="v9")
    assert kind is loading.MissingFileError
    assert "has no revision 'v9'" in message


def test_the_hub_is_down(hub):
    hub.answers = {"/": refusal(503)}
    kind, message = message_of()
    assert kind is ConnectionError
    assert "503" in message or "cannot be reached" in message


def test_all_failures_are_told_apart(hub, folder):
    """No two of the hub's failures share a message."""
    answers = {
        "network": httpx.ConnectError("no route"),
        "no token": refusal(401, "GatedRepo", RESTRICTED),
        "not accepted": refusal(401, None, "Invalid credentials in Authorization header"),
        "no access": refusal(403, "GatedRepo", RESTRICTED),
        "no model": refusal(404, "RepoNotFound"),
        "no revision": refusal(404, "RevisionNotFound"),
    }
    messages = []
    for name, answer in answers.items():
        hub.answers = {"/": answer}
        messages.append(message_of(token=None if name == "no token" else SECRET)[1])
    assert len(set(messages)) == len(answers)


# -- the authors' own classes

AUTHORS = {
    "configuration_conceptclip": """
from transformers import PretrainedConfig
class ConceptCLIPConfig(PretrainedConfig):
    model_type = "conceptclip"
""",
    "modeling_conceptclip": """
import torch
from pathlib import Path
from transformers import PreTrainedModel
from .configuration_conceptclip import ConceptCLIPConfig
class ConceptCLIP(PreTrainedModel):
    config_class = ConceptCLIPConfig
    def __init__(self, config):
        super().__init__(config)
        self.logit_scale = torch.nn.Parameter(torch.zeros(()))
        self.post_init()
""",
    "preprocessor_conceptclip": """
class ConceptCLIPProcessor:
    @classmethod
    def from_pretrained(cls, folder, **kwargs):
        return cls()
""",
}


def test_remote_code_is_the_way_to_the_authors_classes(tmp_path, monkeypatch):
    from reference_conceptclip import GEOMETRY, random_weights
    from safetensors.torch import save_file
    from transformers import dynamic_module_utils
    from transformers.utils import hub as transformers_hub

    for module in (dynamic_module_utils, transformers_hub):
        monkeypatch.setattr(module, "HF_MODULES_CACHE", str(tmp_path / "modules"), raising=False)
    folder = write_with_code(tmp_path / "released", random_weights(GEOMETRY))
    for name, code in AUTHORS.items():
        (folder / f"{name}.py").write_text(code)
    assert type(helpers.load(folder)[0]) is ConceptCLIPModel
    save_file({"logit_scale": torch.tensor(4.5)}, folder / "model.safetensors", metadata={"format": "pt"})
    model, processor = helpers.load(folder, remote_code=True)
    assert type(model).__name__ == "ConceptCLIP"
    assert type(model).__module__.startswith("transformers_modules.")
    assert type(processor).__module__.startswith("transformers_modules.")
    assert model.logit_scale.item() == 4.5


def test_remote_code_that_is_not_there(tiny_model_folder):
    with pytest.raises(ValueError, match=rf"{tiny_model_folder.name}.*remote_code=False"):
        helpers.load(tiny_model_folder, remote_code=True)

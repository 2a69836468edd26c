"""Many pictures at once: the same pixels and digits in order, bounded, and nothing left behind whatever happens."""

import multiprocessing
import os
import threading
import time
import weakref
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import psutil
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from skimage import data
from small_model import small_model
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

import helpers
from helpers import encoding
from helpers.images import ImageError, read_image

# Photographs: a retina, tissue, a cat, a cup, a rocket; and one with the sharpest edges there are.
PHOTOGRAPHS = [getattr(data, name)() for name in ("retina", "immunohistochemistry", "chelsea", "coffee", "rocket")]


@pytest.fixture(scope="module")
def tiny():
    return small_model()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """40 different small files."""
    folder, random = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    for k in range(40):
        Image.fromarray(random.integers(0, 256, (30 + k, 40, 3), dtype=np.uint8)).save(folder / f"{k:02}.png")
    return sorted(folder.iterdir())


def no_thread_is_left() -> bool:
    for _ in range(100):
        if not any(thread.name.startswith("encode") for thread in threading.enumerate()):
            return True
        time.sleep(0.02)
    return False


# --- the same ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [60, 384])
def test_the_pixels_are_bit_for_bit_the_processors(tiny, monkeypatch, side):
    """Every path: many workers, one, the processor one by one, the processor in one call, and the formula."""
    model, processor = tiny
    monkeypatch.setattr(
        processor.image_processor, "size", type(processor.image_processor.size)(height=side, width=side)
    )
    seen = []

    def keep(model, pixels, tokens, dtype, grid):
        seen.extend(row.numpy().tobytes() for row in pixels)
        return torch.zeros(len(pixels), 32), None

    monkeypatch.setattr(encoding, "_run_images", keep)
    images = [array[k:] for array in PHOTOGRAPHS for k in range(4)]
    one_by_one = [processor(images=[image], return_tensors="pt")["pixel_values"][0] for image in images]
    together = processor(images=images, return_tensors="pt")["pixel_values"]
    assert torch.equal(together, torch.stack(one_by_one))
    for workers in (1, 3):
        seen.clear()
        helpers.encode_images(model, processor, images, workers=workers)
        assert sorted(seen) == sorted(pixels.numpy().tobytes() for pixels in one_by_one)
    squashed = Image.fromarray(images[5]).resize((side, side), Image.Resampling.BICUBIC)
    by_hand = (torch.from_numpy(np.array(squashed)).permute(2, 0, 1) * (1 / 255) - 0.5) / 0.5
    assert torch.equal(one_by_one[5], by_hand)


def test_the_order_is_the_callers_whatever_the_workers(tiny, files):
    model, processor = tiny
    expected = torch.cat([helpers.encode_images(model, processor, [path]).features for path in files])
    for workers, batch_size in ((1, 32), (2, 32), (3, 7), (5, 1), (2, 40), (64, 9)):
        encoded = helpers.encode_images(model, processor, files, workers=workers, batch_size=batch_size)
        torch.testing.assert_close(encoded.features, expected, atol=1e-6, rtol=0)
        assert encoded.names == [path.name for path in files]
        assert encoded.index.tolist() == list(range(40))
        parts = list(helpers.iter_image_encodings(model, processor, files, workers=workers, batch_size=batch_size))
        assert [len(part) for part in parts] == [min(batch_size, 40 - k) for k in range(0, 40, batch_size)]


def test_token_vectors_are_the_same_and_stand_in_one_array(tiny, files):
    model, processor = tiny
    encoded = helpers.encode_images(model, processor, files, workers=3, tokens=True, dtype="float16")
    single = helpers.encode_images(model, processor, files, workers=1, tokens=True)
    torch.testing.assert_close(encoded.tokens.float(), single.tokens, atol=2e-3, rtol=2e-3)
    assert encoded.tokens.is_contiguous()


def test_the_fast_way_is_near_and_says_so(tiny):
    """What `encode_images` says of it: the largest change of a grey level, and the cosine."""
    model, processor = tiny
    ours = processor.image_processor
    for side in (60, 224, 384):
        size = type(ours.size)(height=side, width=side)
        for array in PHOTOGRAPHS:
            exact, fast = (
                ours.scaled(array, size=size, resample=ours.resample, fast=fast).astype(int) for fast in (False, True)
            )
            assert abs(exact - fast).max() <= 2
            assert (exact != fast).mean() < 0.1
    exact, fast = (helpers.encode_images(model, processor, PHOTOGRAPHS, pixels=kind) for kind in ("exact", "fast"))
    assert F.cosine_similarity(exact.features, fast.features).min() > 0.9999
    assert (exact.pixels, fast.pixels) == ("exact", "fast")


def test_simplejpeg_decodes_as_pillow_does_and_refuses_what_the_door_refuses(tmp_path):
    pytest.importorskip("simplejpeg")
    exif = Image.Exif()
    for kind, options in {
        "plain": {"quality": 90},
        "half": {"quality": 75, "subsampling": 2},
        "progressive": {"progressive": True},
        "restart": {"restart_marker_blocks": 4},
    }.items():
        for orientation in (1, 6):
            exif[0x0112] = orientation
            for mode in ("RGB", "L", "CMYK"):
                path = tmp_path / f"{kind}-{orientation}-{mode}.jpg"
                Image.fromarray(PHOTOGRAPHS[2]).convert(mode).save(path, exif=exif, **options)
                fast, exact = (np.asarray(read_image(path, "a", fast=fast)).astype(int) for fast in (True, False))
                assert fast.shape == exact.shape
                assert abs(fast - exact).max() <= 1
    whole = path.read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    for bad in ("cut.jpg", "absent.jpg", "."):
        said = []
        for fast in (True, False):
            with pytest.raises(ImageError) as error:
                read_image(tmp_path / bad, "a", fast=fast)
            said.append(str(error.value))
        assert said[0] == said[1]


def test_vectors_alone_need_no_projection(tiny, files):
    model, processor = tiny
    calls = []
    handle = model.image_proj.register_forward_hook(lambda *_: calls.append(1))
    try:
        helpers.encode_images(model, processor, files[:3])
        assert not calls
        helpers.encode_images(model, processor, files[:3], tokens=True)
        assert calls
    finally:
        handle.remove()


# --- bounded, and nothing left behind ---------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [2, 3])
def test_no_more_batches_are_under_way_than_workers_and_two(tiny, files, workers):
    """The data set counts what was taken from it; the loop is slow."""
    taken, given = 0, 0

    class Counting(Dataset):
        def __len__(self):
            return 200

        def __getitem__(self, k):
            nonlocal taken
            taken += 1
            return Image.open(files[k % 40]), k

    for part in helpers.iter_image_encodings(*tiny, Counting(), batch_size=4, workers=workers):
        given += len(part)
        time.sleep(0.01)
        assert taken - given <= 4 * (workers + 2)
    assert given == 200
    assert no_thread_is_left()


def test_no_part_is_kept_beside_the_result(tiny, files, monkeypatch):
    """Small tensors that stay between large ones make the heap grow with the number of pictures."""
    parts, original = [], encoding.iter_image_encodings

    def watched(*args, **kwargs):
        for part in original(*args, **kwargs):
            assert sum(ref() is not None for ref in parts) <= 1  # the one before, which the caller's loop still names
            parts.append(weakref.ref(part.features))
            yield part

    monkeypatch.setattr(encoding, "iter_image_encodings", watched)
    for tokens in (False, True):
        encoded = helpers.encode_images(*tiny, [*files, "nowhere.png"], batch_size=4, tokens=tokens, on_error="report")
        assert (len(encoded), encoded.index.tolist(), len(encoded.failures)) == (40, list(range(40)), 1)
    assert len(parts) == 22


def test_an_error_closing_early_and_ctrl_c_leave_no_thread(tiny, files, monkeypatch):
    with pytest.raises(ValueError, match=r"nowhere\.png"):
        helpers.encode_images(*tiny, [*files[:20], "nowhere.png", *files[20:]], workers=3)
    assert no_thread_is_left()
    parts = helpers.iter_image_encodings(*tiny, files, batch_size=2, workers=3)
    assert len(next(parts)) == 2
    parts.close()
    assert no_thread_is_left()
    parts = helpers.iter_image_encodings(*tiny, files, batch_size=2, workers=3)
    next(parts)
    del parts
    assert no_thread_is_left()
    with pytest.raises(KeyboardInterrupt):
        for _ in helpers.iter_image_encodings(*tiny, files, batch_size=2, workers=3):
            raise KeyboardInterrupt
    assert no_thread_is_left()

    def stops(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(encoding, "_joined", stops)
    with pytest.raises(KeyboardInterrupt):
        helpers.encode_images(*tiny, files, batch_size=2, workers=3)
    assert no_thread_is_left()


def test_a_fault_of_the_model_is_not_taken_for_one_of_a_picture(tiny, files, monkeypatch):
    def fails(*args, **kwargs):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(tiny[0], "encode_image", fails)
    with pytest.raises(RuntimeError, match="out of memory"):
        helpers.encode_images(*tiny, files, workers=2, on_error="report")
    assert no_thread_is_left()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_torchs_threads_are_the_callers_during_and_afterwards(tiny, files, threads):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        for _ in helpers.iter_image_encodings(*tiny, files, batch_size=8, workers=3):
            assert torch.get_num_threads() == threads
            found: list[int] = []
            other = threading.Thread(target=lambda found=found: found.append(torch.get_num_threads()))
            other.start()
            other.join()
            assert found == [threads]
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_the_default_is_as_many_workers_as_torch_has_threads(tiny, files, monkeypatch):
    asked = []
    original = encoding._in_order
    monkeypatch.setattr(encoding, "_in_order", lambda work, jobs, n: asked.append(n) or original(work, jobs, n))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    for threads, expected in ((1, 1), (3, 3), (9, 4)):
        with monkeypatch.context() as patched:
            patched.setattr(torch, "get_num_threads", lambda threads=threads: threads)
            patched.setattr(torch, "set_num_threads", lambda _: None)
            helpers.encode_images(*tiny, files[:16], workers=None)
        assert asked.pop() == expected
    helpers.encode_images(*tiny, files[:1], workers=4)
    assert asked.pop() == 1


def test_each_worker_has_one_thread_of_torchs(tiny, files, monkeypatch):
    threads, original, before = {}, encoding._run_images, torch.get_num_threads()

    def run(*args):
        threads[threading.current_thread().name] = torch.get_num_threads()
        return original(*args)

    monkeypatch.setattr(encoding, "_run_images", run)
    torch.set_num_threads(3)  # also where the caller, and every thread that starts anew, has more
    try:
        helpers.encode_images(*tiny, files, workers=2)
    finally:
        torch.set_num_threads(before)
    assert set(threads.values()) == {1}
    assert all(name.startswith("encode") for name in threads)


def encode_in_a_child(files, queue) -> None:
    encoded = helpers.encode_images(*small_model(), files, batch_size=128, workers=2, tokens=True)
    queue.put((encoded.features.numpy(), encoded.tokens.shape))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")
def test_in_a_daemonic_worker_process(tiny, files):
    """Forked, where the parent has used several threads of torch's before."""
    many = [*files] * 10  # in batches whose token vectors are beyond torch's limit for copying by one thread
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.rand(500, 500) @ torch.rand(500, 500)
        torch.ones(1 << 20).copy_(torch.zeros(1 << 20))
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        process = context.Process(target=encode_in_a_child, args=(many, queue), daemon=True)
        process.start()
        features, shape = queue.get(timeout=300)
        process.join(30)
        assert process.exitcode == 0
    finally:
        torch.set_num_threads(before)
        process.kill()
    assert shape == (400, 16, 32)
    np.testing.assert_allclose(features[:40], helpers.encode_images(*tiny, files).features, atol=1e-6)


def encode_in_a_pool(files):
    return helpers.encode_images(*small_model(), files, workers=2).features.numpy()


def test_in_a_spawned_worker_process(tiny, files):
    """A pool whose process begins from nothing, as on Windows and macOS, and makes its own model."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        features = pool.submit(encode_in_a_pool, files).result(timeout=600)  # imports are slow on a busy machine
    np.testing.assert_allclose(features, helpers.encode_images(*tiny, files).features, atol=1e-6)


# --- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [False, True, "unprojected"])
def test_a_batch_of_only_broken_pictures_keeps_its_shapes(tiny, files, tokens):
    images = [*files[:4], "a.png", "b.png", "c.png", "d.png", *files[4:8]]
    for workers in (1, 2):
        parts = list(
            helpers.iter_image_encodings(
                *tiny, images, batch_size=4, tokens=tokens, on_error="report", workers=workers, dtype="float16"
            )
        )
        assert [len(part) for part in parts] == [4, 0, 4]
        empty, whole = parts[1], parts[0]
        assert empty.features.shape == (0, 32)
        assert empty.features.dtype == whole.features.dtype == torch.float16
        assert (empty.tokens is None) == (not tokens)
        assert not tokens or empty.tokens.shape[1:] == whole.tokens.shape[1:]
        assert empty.failures["item"].tolist() == [4, 5, 6, 7]
        assert torch.cat([part.features for part in parts]).shape == (8, 32)
        assert empty.projected == whole.projected


def test_failures_are_told_item_by_item_in_order(tiny, files):
    images = [image for path in files for image in (path, "nowhere.png", None, np.zeros((0, 4, 3), np.uint8))]
    encoded = helpers.encode_images(*tiny, images, on_error="report", workers=3, tokens=True)
    assert encoded.index.tolist() == list(range(0, 160, 4))
    assert encoded.failures["item"].tolist() == [k for k in range(160) if k % 4]
    assert encoded.tokens.shape == (40, 16, 32)


@pytest.mark.parametrize(
    "arguments",
    [{"on_error": "ignore"}, {"dtype": "int8"}, {"tokens": "all"}, {"batch_size": 0}, {"workers": 0}, {"pixels": "x"}],
    ids=str,
)
def test_the_iterator_fails_at_once(tiny, files, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        helpers.iter_image_encodings(*tiny, files, **arguments)
    with pytest.raises(ValueError, match="images"):
        helpers.iter_image_encodings(*tiny, [])
    with pytest.raises(ValueError, match="window"):
        helpers.iter_image_encodings(*tiny, files, window=(5, 5))


def test_pictures_are_counted_as_they_are_taken(tiny, files, capsys):
    helpers.encode_images(*tiny, [*files, "nowhere.png"], progress=True, on_error="report", workers=2)
    assert "41/41" in capsys.readouterr().err


def test_token_vectors_beyond_the_limit_are_refused_before_the_work(tiny, files, monkeypatch):
    size = 40 * 16 * 32 * 4
    monkeypatch.setattr(tiny[0], "encode_image", None)  # nothing is to be run
    with pytest.raises(ValueError, match=r"40 images.*iter_image_encodings.*helpers.store.*memory_limit"):
        helpers.encode_images(*tiny, files, tokens=True, memory_limit=size - 1)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 2 * size - 2}))
    with pytest.raises(ValueError, match="memory_limit"):
        helpers.encode_images(*tiny, files, tokens=True)
    monkeypatch.undo()
    assert helpers.encode_images(*tiny, files, tokens=True, memory_limit=size).tokens.shape == (40, 16, 32)
    assert helpers.encode_images(*tiny, files, memory_limit=0).tokens is None


# --- data sets --------------------------------------------------------------------------------------------------------


class Pictures(Dataset):
    def __init__(self, files, label=str):
        self.files, self.label = files, label

    def __len__(self):
        return len(self.files)

    def __getitem__(self, k):
        return Image.open(self.files[k]), self.label(k)


def test_a_data_set_gives_its_labels_in_order(tiny, files, tmp_path):
    expected = helpers.encode_images(*tiny, files)
    assert expected.labels is None
    for workers in (1, 3):
        encoded = helpers.encode_images(*tiny, Pictures(files), workers=workers, batch_size=9, tokens=True)
        torch.testing.assert_close(encoded.features, expected.features, atol=1e-6, rtol=0)
        assert encoded.labels == [str(k) for k in range(40)]
        assert encoded.tokens.shape == (40, 16, 32)
    again = helpers.load_encodings(encoded.save(tmp_path / "a.safetensors"))
    assert (again.labels, again.pixels) == (encoded.labels, "exact")
    few = helpers.encode_images(*tiny, Subset(Pictures(files, label=int), [7, 3]))
    assert few.labels == [7, 3]
    torch.testing.assert_close(few.features, expected.features[[7, 3]], atol=1e-6, rtol=0)


def test_an_item_that_the_data_set_cannot_give_is_a_failure(tiny, files):
    files = [*files[:9], "nowhere.png", *files[9:]]
    with pytest.raises(ImageError, match=r"image 9: .*FileNotFoundError"):
        helpers.encode_images(*tiny, Pictures(files))
    encoded = helpers.encode_images(*tiny, Pictures(files), on_error="report", workers=2)
    assert encoded.failures[["item", "name"]].to_numpy().tolist() == [[9, "image 9"]]
    assert encoded.labels == [str(k) for k in range(41) if k != 9]


def test_data_loaders(tiny):
    floats = torch.rand(11, 3, 60, 60)
    expected = helpers.encode_images(*tiny, floats).features
    labels = torch.arange(11) * 3
    sets = {
        "pairs": (TensorDataset(floats, labels), {}, True),
        "alone": (TensorDataset(floats), {}, False),
        "no batches": (TensorDataset(floats, labels), {"batch_size": None}, True),
        "samples": (TensorDataset(floats, labels), {"collate_fn": list}, True),
        "columns": (TensorDataset(floats, labels), {"collate_fn": lambda batch: tuple(zip(*batch, strict=True))}, True),
        "dicts": ([{"image": x, "label": int(y)} for x, y in zip(floats, labels, strict=True)], {}, True),
        "a process": (TensorDataset(floats, labels), {"num_workers": 1}, True),
    }
    for name, (data_set, how, labelled) in sets.items():
        for batch_size in (2, 4):
            loader = DataLoader(data_set, **{"batch_size": batch_size} | how)
            for tokens in (False, name != "no batches"):
                encoded = helpers.encode_images(*tiny, loader, tokens=tokens, workers=2)
                torch.testing.assert_close(encoded.features, expected, atol=1e-6, rtol=0, msg=name)
                assert encoded.labels == (labels.tolist() if labelled else None), name
                assert encoded.names == [f"image {k}" for k in range(11)]
    shuffled = helpers.encode_images(*tiny, DataLoader(TensorDataset(floats, labels), shuffle=True, batch_size=3))
    torch.testing.assert_close(shuffled.features, expected[[k // 3 for k in shuffled.labels]], atol=1e-6, rtol=0)


def test_streams_and_data_sets_that_give_something_else(tiny, files):
    class Stream(IterableDataset):
        def __iter__(self):
            return ((Image.open(path), path.name) for path in files)

    encoded = helpers.encode_images(*tiny, Stream())
    assert encoded.labels == [path.name for path in files]
    with pytest.raises(ValueError, match="iter_image_encodings"):
        helpers.encode_images(*tiny, Stream(), tokens=True)
    assert sum(len(part.tokens) for part in helpers.iter_image_encodings(*tiny, Stream(), tokens=True)) == 40
    three = TensorDataset(torch.rand(2, 3, 60, 60), torch.zeros(2), torch.zeros(2))
    with pytest.raises(ValueError, match=r"3 .*image 0"):
        helpers.encode_images(*tiny, three)
    with pytest.raises(ValueError, match="images"):
        helpers.encode_images(*tiny, TensorDataset(torch.rand(0, 3, 60, 60)))
    normalised = TensorDataset(torch.rand(2, 3, 60, 60) * 2 - 1, torch.zeros(2))
    with pytest.raises(ValueError, match="image 0"):
        helpers.encode_images(*tiny, normalised)


# --- texts ------------------------------------------------------------------------------------------------------------


def test_texts_of_like_length_go_together_and_come_back_in_order(tiny, monkeypatch):
    model, processor = tiny
    texts = ["red cells " * (1 + (k * 7) % 11) for k in range(30)]
    alone = [helpers.encode_texts(model, processor, [text], tokens=True) for text in texts]
    shapes, original = [], model.encode_text

    def encode_text(ids, **how):
        shapes.append(tuple(ids.shape))
        return original(ids, **how)

    monkeypatch.setattr(model, "encode_text", encode_text)
    encoded = helpers.encode_texts(model, processor, texts, tokens=True, batch_size=8)
    assert encoded.tokens.shape == (30, 24, 32)
    assert [width for _, width in shapes] == sorted(width for _, width in shapes)
    assert shapes[0][1] < 10
    for k, one in enumerate(alone):
        torch.testing.assert_close(encoded.features[k], one.features[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(encoded.tokens[k, encoded.mask[k]], one.tokens[0], atol=1e-5, rtol=1e-5)
    shapes.clear()
    helpers.encode_texts(model, processor, texts, pad_to=40)
    assert shapes == [(30, 40)]
